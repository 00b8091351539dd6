"""Path patching, exactly, at the cost of one-token MLPs and a rerun of the suffix (paper, section 4.1).

Frozen: every head's z from the sender's position to the last, except the sender's own. Recomputed: the MLPs.
Replaced: the receivers, by the value they have in that run. Because attention is frozen, what a sender changes
travels through the MLPs at its own position alone, so all senders go through the model as one sweep of one-token
MLPs. What the changed receivers do is then found by rerunning only the tokens from that position on, over the
clean keys and values of the tokens before it.
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import (
    Anatomy,
    at,
    finish_layer,
    head_columns,
    projection,
    split_heads,
    through,
    unembed,
)
from entitrack.engine.answers import Prompts, answer_probability
from entitrack.engine.memory import Measured, in_pieces
from entitrack.engine.passes import Passes, SourcePrompts, both_passes, sent_z
from entitrack.engine.patching import answer
from entitrack.engine.receivers import Receivers, received_probability, receiver_heads, receiving_layers


def path_effects(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    source: SourcePrompts,
    senders: list[list[int]],
    receivers: Receivers,
    gib: float | None = None,
    known: dict[str, float] | None = None,
    kept: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Effect of every sender on the probability of the right answer, through the given receivers.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: The clean prompts.
        source: The counterfactual prompts.
        senders: Heads to score, for each layer.
        receivers: Through what they act.
        gib: Memory budget for what goes through the model at once, see `memory.in_pieces`.
        known: Bytes that a token takes in the `sweep` and in a `suffix`, as an earlier call found them; they are
            measured where they are not given.
        kept: See `passes.both_passes`.

    Returns:
        `effect` `[batch, layer, head]`: (p_patched - p_clean) / p_clean, 0 where no path leads from a sender and for
        heads that are not senders; `null` `[batch]`: the same for a sender whose z is left alone, which is the
        arithmetic's own noise; `probability` `[batch]`: p_clean; `peak_bytes` `[1]`: what the largest piece takes;
        `bytes_per_token` `[2]`: of the sweep and of a suffix, 0 where there was none.
    """
    by_logits = receivers["component"] == "logits"
    top = max(receiving_layers(receivers), default=anatomy["n_layers"])
    heads_of = {layer: heads for layer, heads in enumerate(senders) if heads and layer < top}
    if not heads_of:
        return no_effects(model, anatomy, clean)
    passes = both_passes(model, anatomy, clean, source, None if by_logits else top, kept)
    sweep_size, suffix_size = (known_size(known, name) for name in ("sweep", "suffix"))
    with torch.no_grad():
        state = at_position(anatomy, passes, clean["position"], source["position"], top)
        patched, peak = sweep_in_pieces(model, anatomy, state, heads_of, receivers, clean["answers"], gib, sweep_size)
        if not by_logits:
            patched, suffix_peak = received_probability(
                model, anatomy, clean, passes, patched, receivers, gib, suffix_size
            )
            peak = max(peak, suffix_peak)
    change = patched / passes["probability"][:, None] - 1
    return {
        **scatter_effects(anatomy, change, heads_of),
        "probability": passes["probability"],
        "peak_bytes": torch.tensor([peak]),
        "bytes_per_token": torch.tensor([size.get("bytes_per_token", 0.0) for size in (sweep_size, suffix_size)]),
    }


def known_size(known: dict[str, float] | None, name: str) -> Measured:
    """What an earlier call has measured; nothing if it had no such part."""
    return {"bytes_per_token": known[name]} if known and known.get(name) else {}


def no_effects(model: Any, anatomy: Anatomy, clean: Prompts) -> dict[str, Tensor]:
    """The effects where no path leads from a sender to a receiver: none."""
    probability = answer(model, anatomy, clean)["probability"]
    change = torch.zeros(len(probability), 1, device=probability.device)
    effects = scatter_effects(anatomy, change, {})
    nothing = {"peak_bytes": torch.zeros(1, dtype=torch.long), "bytes_per_token": torch.zeros(2)}
    return {**effects, "probability": probability, **nothing}


class SweepState(TypedDict):
    """What the sweep needs of the passes, at the senders' position, by layer."""

    resid_pre: list[Float[Tensor, "batch d_model"]]
    """Of the layers after the first it may be missing: it is the null variant's, but for rounding."""
    z: list[Float[Tensor, "batch width"]]
    source_z: list[Float[Tensor, "batch head d_head"]]


def at_position(
    anatomy: Anatomy, passes: Passes, position: Int[Tensor, " batch"], source_position: Tensor, top: int
) -> SweepState:
    """What the sweep needs of the passes, of layers below `top`."""
    layers, clean = range(top), passes["clean"]
    return {
        "resid_pre": [at(clean["streams"][layer], position) for layer in layers],
        "z": [at(clean["z"][layer], position) for layer in layers],
        "source_z": [sent_z(anatomy, passes["source_z"][layer], source_position, layer) for layer in layers],
    }


def sweep_in_pieces(
    model: Any,
    anatomy: Anatomy,
    state: SweepState,
    heads_of: dict[int, list[int]],
    receivers: Receivers,
    answers: Int[Tensor, " batch"],
    gib: float | None,
    known: Measured,
) -> tuple[Any, int]:
    """The sweep, as many prompts at once as the budget allows.

    Returns:
        For logits the probability of the right answer `[batch, variant]`, for receivers what `sweep` gives; and the
        bytes that the largest piece takes.
    """

    def work(prompts: Tensor) -> dict[Any, Tensor]:
        """What a piece of the batch gives, by the numbers of its prompts."""
        rows = prompts.to(answers.device)
        some: Any = {
            name: [values[rows.to(values.device)] for values in state[name]]  # type: ignore[literal-required]
            for name in ("resid_pre", "z", "source_z")
        }
        swept = sweep(model, anatomy, some, heads_of, receivers)
        if receivers["component"] != "logits":
            return swept
        return {"logits": answer_probability(unembed(model, anatomy, swept["stream"]), answers[rows])}

    variants = 1 + sum(len(heads) for heads in heads_of.values())
    pieces, peak = in_pieces(len(answers), variants, gib, answers.device, work, known)
    joined = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    return joined.get("logits", joined), peak


def sweep(
    model: Any,
    anatomy: Anatomy,
    state: SweepState,
    heads_of: dict[int, list[int]],
    receivers: Receivers,
) -> dict[Any, Tensor]:
    """Send every sender's change through the one-token MLPs of the layers after it.

    Variants are ordered: the null variant, then the senders layer by layer.

    Args:
        model: The model.
        anatomy: Its anatomy.
        state: See `at_position`.
        heads_of: Layer -> its senders.
        receivers: See `path_effects`.

    Returns:
        For logits `stream` `[batch, variant, d_model]` at the end of the last layer; for receivers layer -> their
        values `[batch, variant, receiver, d_head]`, for the variants whose senders are below it.
    """
    resid_pre, z = state["resid_pre"], state["z"]
    stream = nudged(resid_pre[0][:, None])
    top = len(z)
    received: dict[Any, Tensor] = {}
    for layer in range(top + 1):
        heads = receiver_heads(receivers, layer)
        if heads:
            received[layer] = receive(model, anatomy, layer, stream, receivers["component"], heads)
        if layer == top:
            break
        new = heads_of.get(layer, [])
        sent = torch.cat([z[layer][:, None], sender_z(anatomy, z[layer], state["source_z"][layer], new)], 1)
        sent = through(model, anatomy, layer, "o_proj", sent)
        sent = through(model, anatomy, layer, "post_attention_norm", sent)
        added = torch.cat([sent[:, :1].expand_as(stream), sent[:, 1:]], 1)
        own = (resid_pre[layer][:, None] if layer < len(resid_pre) else stream[:, :1]).expand(-1, len(new), -1)
        before = torch.cat([stream.to(own.device), own], 1)
        stream = finish_layer(model, anatomy, layer, before, added)
    return received or {"stream": stream}


def nudged(stream: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """The null variant's stream: in float32 the clean one, in half precision off by one rounding.

    Quantised models may compute in half precision. Rounded twice the same way it would show no noise at all, while
    every sender's small change is rounded in a way of its own.
    """
    if stream.dtype not in (torch.bfloat16, torch.float16):
        return stream
    signs = torch.ones(stream.shape[-1], device=stream.device, dtype=stream.dtype)
    signs[1::2] = -1
    return stream * (1 + torch.finfo(stream.dtype).eps * signs)


def sender_z(
    anatomy: Anatomy,
    clean_z: Float[Tensor, "batch width"],
    source_z: Float[Tensor, "batch head d_head"],
    heads: list[int],
) -> Float[Tensor, "batch sender width"]:
    """The clean input of `o_proj`, once for each sender, with that head's z from the source."""
    columns = head_columns(anatomy, "z", clean_z.device)[heads]
    z = clean_z[:, None].repeat(1, len(heads), 1)
    index = columns[None].expand(z.shape[0], -1, -1)
    return z.scatter(2, index, source_z[:, heads].to(z.dtype))


def receive(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    stream: Float[Tensor, "batch variant d_model"],
    component: str,
    heads: list[int],
) -> Float[Tensor, "batch variant receiver d_head"]:
    """The receivers' q, k or v, given the stream at the start of their layer."""
    normed = through(model, anatomy, layer, "pre_attention_norm", stream)
    return split_heads(anatomy, component, projection(model, anatomy, layer, component)(normed))[:, :, heads]


def scatter_effects(
    anatomy: Anatomy, change: Float[Tensor, "batch variant"], heads_of: dict[int, list[int]]
) -> dict[str, Tensor]:
    """Effects by layer and head, and the null variant's, from effects by variant."""
    effect = change.new_zeros(change.shape[0], anatomy["n_layers"], anatomy["n_heads"])
    index = 1
    for layer, heads in heads_of.items():
        effect[:, layer, heads] = change[:, index : index + len(heads)]
        index += len(heads)
    return {"effect": effect, "null": change[:, 0].clone()}
