"""Mean ablation: what a model answers when only a circuit's heads do their work (paper, section 4.2).

Heads outside the circuit take a value that does not depend on the prompt's content, and at positions without a role
every head does. What happens at those positions then depends on no circuit: their keys and values are computed once
a prompt, and a circuit costs a run over the few tokens that have a role (`engine.vital`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.evaluation import answer_probability, forward_inputs, full_cache
from entitrack.engine.packing import select_z
from entitrack.engine.sites import Anatomy, at, layer_at, part, unembed


def total_z(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum of z over prompts of one length, at every token index. Nothing is frozen, recomputed or replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding.

    Returns:
        `total` `[layer, token, width]`, float32, with all heads side by side.
    """
    totals = []
    with torch.no_grad(), model.trace(forward_inputs(prompts), use_cache=False) as tracer:
        for layer in range(anatomy["n_layers"]):
            totals.append(part(model, anatomy, layer, "o_proj").input.float().sum(0))
        tracer.stop()
    return {"total": torch.stack(totals)}


def fill_values(model: Any, anatomy: Anatomy, fill: dict[str, Tensor]) -> list[Float[Tensor, "batch token width"]]:
    """What ablated heads take, by layer, with all heads side by side.

    Args:
        model: The model.
        anatomy: Its anatomy.
        fill: `values` `[layer, token, width]`, the same for every prompt; or `tokens` and `mask` `[batch, token]` of
            other prompts, whose own z is then taken.
    """
    if "values" in fill:
        return list(fill["values"][:, None].unbind(0))
    found = []
    with torch.no_grad(), model.trace(forward_inputs(fill), use_cache=False) as tracer:
        for layer in range(anatomy["n_layers"]):
            found.append(part(model, anatomy, layer, "o_proj").input)
        tracer.stop()
    return found


def ablate_everything(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    fills: list[Tensor],
    positions: Int[Tensor, "batch role"],
) -> dict[str, Any]:
    """The run of the empty circuit: every head of every position takes its fill. Recomputed: embeddings and MLPs.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`.
        fills: See `fill_values`.
        positions: Tokens whose states are kept.

    Returns:
        By layer: `streams`, its input, and `z`, what attention computes before it is replaced, both
        `[batch, role, ...]`; `keys` and `values` `[batch, kv_head, token, d_head]`. And `cache`, the class of caches.
    """
    state: dict[str, Any] = {"streams": [], "z": []}
    rows = torch.arange(positions.shape[0], device=positions.device)[:, None]
    with torch.no_grad():
        with model.trace({**forward_inputs(prompts), **full_cache(model, anatomy, prompts["tokens"])}):
            for layer in range(anatomy["n_layers"]):
                stream = layer_at(model, anatomy, layer).input
                state["streams"].append(stream[rows.to(stream.device), positions.to(stream.device)])
                o_proj = part(model, anatomy, layer, "o_proj")
                z = o_proj.input
                state["z"].append(z[rows.to(z.device), positions.to(z.device)])
                o_proj.input = fills[layer].to(z).expand_as(z).clone()
            cache = model.output.past_key_values
    state["keys"] = [entry.keys for entry in cache.layers]
    state["values"] = [entry.values for entry in cache.layers]
    state["cache"] = type(cache)
    return state


def model_without(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    fill: dict[str, Tensor],
    positions: Int[Tensor, "batch role"],
    removed: Bool[Tensor, "circuit role layer head"],
) -> dict[str, Tensor]:
    """What the whole model answers when sets of heads are ablated, each at its role only (paper, section 4.2).

    Replaced: z of the removed heads at their role. Recomputed: everything after them. Frozen: nothing.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: See `outcomes`, and `mask` `[batch, token]`.
        fill: See `fill_values`.
        positions: Position of each role.
        removed: The heads of each set; a set without heads leaves the model as it is.

    Returns:
        See `outcomes`, `[circuit, batch]`.
    """
    fills = fill_values(model, anatomy, fill)
    found = []
    for heads in removed.unbind(0):
        with torch.no_grad(), model.trace(forward_inputs(prompts), use_cache=False):
            for layer in range(anatomy["n_layers"]):
                if bool(heads[:, layer].any()):
                    o_proj = part(model, anatomy, layer, "o_proj")
                    o_proj.input = _without(o_proj.input, fills[layer], positions, ~heads[:, layer])
            found.append(outcomes(at(model.output.logits, prompts["last"])[:, None], prompts))
    return {name: torch.cat([entry[name] for entry in found], 1).T for name in found[0]}


def _without(z: Tensor, fill: Tensor, positions: Tensor, live: Tensor) -> Tensor:
    """A copy of `o_proj`'s input with the heads that are not live at each role replaced."""
    index = positions.to(z.device)
    rows = torch.arange(z.shape[0], device=z.device)[:, None]
    replaced = z.clone()
    replaced[rows, index] = select_z(z[rows, index], live, fill.to(z).expand_as(z)[rows, index])
    return replaced


def outcomes(logits: Float[Tensor, "batch circuit vocab"], prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    """How logits stand to the right answers.

    Args:
        logits: At the last token.
        prompts: `answers` `[batch]`, and `rivals` `[batch, rival]`, the other answers that the context offers.

    Returns:
        `prediction`, the most likely token; `probability` of the right answer; `margin`, its logit minus the best
        rival's. All `[batch, circuit]`, float32.
    """
    logits = logits.float()
    answers, rivals = prompts["answers"].to(logits.device), prompts["rivals"].to(logits.device)
    width = logits.shape[1]
    right = logits.gather(2, answers[:, None, None].expand(-1, width, 1)).squeeze(2)
    best = logits.gather(2, rivals[:, None].expand(-1, width, -1)).amax(2)
    probability = answer_probability(logits, answers)
    return {"prediction": logits.argmax(-1), "probability": probability, "margin": right - best}


def put_outcomes(
    results: dict[str, Tensor],
    shape: tuple[int, int],
    circuits: Int[Tensor, " circuit"],
    rows: Int[Tensor, " row"],
    found: dict[str, Tensor],
) -> None:
    """Write `outcomes` of some circuits and prompts, `[row, circuit]`, into those of all, `shape`."""
    for name, values in found.items():
        whole = results.setdefault(name, torch.empty(shape, dtype=values.dtype, device=values.device))
        whole[circuits[:, None].to(values.device), rows[None].to(values.device)] = values.T


def final_outcomes(
    model: Any, anatomy: Anatomy, hidden: Float[Tensor, "batch circuit d_model"], prompts: dict[str, Tensor], most: int
) -> dict[str, Tensor]:
    """`outcomes` of streams at the end of the last layer, at most about `most` of them unembedded at once."""
    width = max(1, most // hidden.shape[0])
    pieces = [outcomes(unembed(model, anatomy, piece), prompts) for piece in hidden.split(width, 1)]
    return {name: torch.cat([piece[name] for piece in pieces], 1) for name in pieces[0]}
