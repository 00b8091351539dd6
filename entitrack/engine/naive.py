"""Path patching by its definition: two full forward passes for every sender.

Slow, and right wherever a model's `o_proj` and projections are known: the yardstick for the fast way, and the way for
architectures whose layers are not described in full.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, at, head_columns, part, projection
from entitrack.engine.answers import Prompts, answer_probability, forward_inputs
from entitrack.engine.passes import SourcePrompts, read_source
from entitrack.engine.receivers import Receivers

NULL = -1
"""The layer of a sender that is left alone."""


def naive_effects(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    source: SourcePrompts,
    heads: list[list[int]],
    receivers: Receivers,
) -> dict[str, Tensor]:
    """Effects of some senders, as `path_patching.path_effects` defines them, one sender after the other.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: See `path_patching.path_effects`.
        source: See there.
        heads: The senders, each `[layer, head]`.
        receivers: See there.

    Returns:
        `effect` `[batch, sender]`, and `null` `[batch]` of a sender that is left alone.
    """
    source_z = read_source(model, anatomy, source, sorted({layer for layer, _ in heads}))
    position = clean["position"]
    tokens = torch.arange(clean["tokens"].shape[1], device=position.device)
    with torch.no_grad():
        with model.trace(forward_inputs(clean), use_cache=False):
            clean_z = [part(model, anatomy, layer, "o_proj").input for layer in range(anatomy["n_layers"])]
            probability = answer_probability(at(model.output.logits, clean["last"]), clean["answers"])
        held = (tokens[None] >= position[:, None])[:, :, None]
        effects = []
        for layer, head in [[NULL, 0], *heads]:
            sent = source_z[layer][:, head] if layer != NULL else None
            frozen = run_frozen(model, anatomy, clean, clean_z, held, [layer, head], sent, receivers)
            logits = frozen["logits"]
            if receivers["component"] != "logits":
                logits = run_received(model, anatomy, clean, frozen["received"], receivers)
            effects.append(answer_probability(logits, clean["answers"]) / probability - 1)
    return {"effect": torch.stack(effects[1:], 1), "null": effects[0]}


def run_frozen(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    clean_z: list[Tensor],
    held: Bool[Tensor, "batch token 1"],
    sender: list[int],
    sent: Float[Tensor, "batch d_head"] | None,
    receivers: Receivers,
) -> dict[str, Any]:
    """The first pass: every z from the position on held at its clean value, but the sender's.

    Returns:
        `logits` `[batch, vocab]` at the last token, and `received`: layer -> output of the receivers' projection.
    """
    rows = torch.arange(len(clean["last"]), device=held.device)
    received: dict[int, Any] = {}
    reading = sorted({layer for layer, _ in receivers.get("heads", [])})
    with model.trace(forward_inputs(clean), use_cache=False):
        for layer in range(anatomy["n_layers"]):
            if layer in reading:
                output = projection(model, anatomy, layer, receivers["component"]).output
                received[layer] = at(output, clean["position"])
            o_proj = part(model, anatomy, layer, "o_proj")
            z = torch.where(held, clean_z[layer], o_proj.input)
            if layer == sender[0] and sent is not None:
                columns = head_columns(anatomy, "z", z.device)[sender[1]]
                z[rows[:, None], clean["position"][:, None], columns[None]] = sent.to(z)
            o_proj.input = z
        logits = at(model.output.logits, clean["last"])
    return {"logits": logits, "received": received}


def run_received(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    received: dict[int, Float[Tensor, "batch width"]],
    receivers: Receivers,
) -> Float[Tensor, "batch vocab"]:
    """The second pass: the receivers as they were in the first, everything else as it is."""
    rows = torch.arange(len(clean["last"]), device=clean["last"].device)[:, None]
    with model.trace(forward_inputs(clean), use_cache=False):
        for layer in sorted(received):
            heads = [head for where, head in receivers["heads"] if where == layer]
            module = projection(model, anatomy, layer, receivers["component"])
            values = module.output.clone()
            columns = head_columns(anatomy, receivers["component"], values.device)[heads].flatten()
            values[rows, clean["position"][:, None], columns[None]] = received[layer][:, columns]
            module.output = values
        logits = at(model.output.logits, clean["last"])
    return logits
