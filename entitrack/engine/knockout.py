"""Attention knockout: what a model answers when one position can no longer see another (paper, section 4.1).

From layer k on, no head attends from the source to the target. Below layer k nothing has changed, and neither has
anything before the source; so each k is a rerun of the source and what follows it, from layer k on, over the model's
own keys and values.

Replaced: one entry of the attention mask. Recomputed: the suffix. Frozen: nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.engine.ablation import final_outcomes
from entitrack.engine.evaluation import forward_inputs, full_cache
from entitrack.engine.packing import finish_heads, mask_layer, pack_inputs
from entitrack.engine.sites import Anatomy, layer_at, part


def knockout_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    source: Int[Tensor, " batch"],
    targets: Int[Tensor, "target batch"],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Answers when the source cannot see each of the targets, by the first layer where it cannot.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding; `last`, `answers`, `rivals`, see `outcomes`.
        source: Position that attends.
        targets: Positions before it, one blocked at a time.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction`, `probability`, `margin`, each `[target, first layer, batch]`; the last of the `n_layers + 1`
        first layers blocks none.
    """
    state = clean_state(model, anatomy, prompts)
    shape = (len(targets), anatomy["n_layers"] + 1, len(source))
    results: dict[str, Tensor] = {}
    lengths = prompts["last"] - source + 1
    for length in lengths.unique().tolist():
        members = (lengths == length).nonzero().flatten()
        for rows in members.split(max(1, chunk_tokens // length)):
            for first in range(anatomy["n_layers"] + 1):
                for target in range(len(targets) if first < anatomy["n_layers"] else 1):
                    blocked = targets[target][rows]
                    found = answer_from(model, anatomy, prompts, state, rows, source[rows], blocked, first)
                    where = slice(None) if first == anatomy["n_layers"] else target
                    for name, values in found.items():
                        empty = torch.empty(shape, dtype=values.dtype, device=values.device)
                        results.setdefault(name, empty)[where, first, rows.to(values.device)] = values[:, 0]
    return results


def clean_state(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor]) -> dict[str, Any]:
    """The model's own run: `streams`, the input of every layer and the last one's output `[batch, token, d_model]`;
    `keys`, `values` by layer; `cache`, the class of caches.
    """
    streams = []
    with torch.no_grad():
        with model.trace({**forward_inputs(prompts), **full_cache(model, anatomy, prompts["tokens"])}):
            for layer in range(anatomy["n_layers"]):
                streams.append(layer_at(model, anatomy, layer).input)
            streams.append(layer_at(model, anatomy, anatomy["n_layers"] - 1).output)
            cache = model.output.past_key_values
    keys = [entry.keys for entry in cache.layers]
    return {"streams": streams, "keys": keys, "values": [entry.values for entry in cache.layers], "cache": type(cache)}


def answer_from(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    state: dict[str, Any],
    rows: Int[Tensor, " row"],
    source: Int[Tensor, " row"],
    target: Int[Tensor, " row"],
    first: int,
) -> dict[str, Tensor]:
    """Answers of some rows with the target hidden from the source in layer `first` and those after it.

    Returns:
        See `outcomes`, `[row, 1]`.
    """
    top = anatomy["n_layers"] - 1
    given = {name: values[rows] for name, values in prompts.items()}
    length = int(given["last"][0] - source[0]) + 1
    slots = source[:, None] + torch.arange(length, device=source.device)
    inputs = pack_inputs(model, anatomy, given["tokens"], slots[:, None], 1, state, rows, first, target)
    known = state["streams"][first]
    stream = known[rows.to(known.device)[:, None], slots.to(known.device)]
    with torch.no_grad(), model.trace(inputs["forward"], use_cache=True) as tracer:
        if first <= top:
            for layer in range(first):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in range(first, top + 1):
                mask_layer(model, anatomy, layer, inputs)
            before = layer_at(model, anatomy, top).input[:, -1:]
            stream = finish_heads(model, anatomy, top, before, part(model, anatomy, top, "o_proj").input[:, -1:])
        found = final_outcomes(model, anatomy, stream[:, -1:], given, len(rows))
        tracer.stop()
    return found
