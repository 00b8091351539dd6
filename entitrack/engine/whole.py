"""What circuits, live positions and knocked out attention answer, where no cache can be handed in.

The same as in `circuits`, `positions` and `knockout`, with variants as slots behind their prompts (`slots`): from the
embeddings on, without a run that is started from. Replaced and frozen is what is replaced and frozen there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.ablation import Fill, ablated_visits, fill_values
from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Outcomes, Prompts, outcomes, put_outcomes, rows_of
from entitrack.engine.elsewhere import stream_dtype
from entitrack.engine.layout import Layout, lay_out
from entitrack.engine.sites import Visit
from entitrack.engine.slots import row_mask, run_behind, slot_passes


def circuit_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    positions: Int[Tensor, "batch role"],
    reference: Bool[Tensor, "role layer head"],
    circuits: Bool[Tensor, "circuit role layer head"],
    gib: float | None,
) -> dict[str, Tensor]:
    """See `circuits.circuit_answers`; the reference is of no use here."""
    return _ablated(model, anatomy, prompts, fill, positions[None], circuits, gib)


def live_position_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    slots: Int[Tensor, "candidate batch place"],
    live: Bool[Tensor, "candidate place"],
    gib: float | None,
) -> dict[str, Tensor]:
    """See `positions.live_position_answers`."""
    heads = live[:, :, None, None].expand(-1, -1, anatomy["n_layers"], anatomy["n_heads"])
    return _ablated(model, anatomy, prompts, fill, slots, heads, gib)


def _ablated(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    slots: Int[Tensor, "#variant batch place"],
    live: Bool[Tensor, "variant place layer head"],
    gib: float | None,
) -> dict[str, Tensor]:
    """Outcomes `[variant, batch]` of prompts that are ablated but for the live heads at the slots of each variant."""
    fills, dtype = fill_values(model, anatomy, fill), stream_dtype(model, anatomy)
    shape = (len(live), slots.shape[1])
    results: dict[str, Tensor] = {}
    variants, every = (torch.arange(size, device=slots.device) for size in shape)
    for part, rows in slot_passes(model, anatomy, variants, every, slots.shape[2], prompts["tokens"].shape[1], gib):
        places = slots[part if len(slots) > 1 else slice(None)][:, rows].transpose(0, 1)
        layout = lay_out(anatomy, prompts, rows, places, len(part), dtype)
        visits = ablated_visits(fills, layout, live[part], 0)
        logits = run_behind(model, anatomy, prompts, layout, visits, filled(fills, layout))
        put_outcomes(results, shape, part, rows, outcomes(logits, rows_of(prompts, rows)))
    return results


def filled(fills: Sequence[Float[Tensor, "#batch token width"]], layout: Layout) -> dict[int, dict[str, Visit]]:
    """Visits that put fills in the place of every z of the prompts."""
    lane = layout["rows"].repeat_interleave(layout["shape"][1])

    def put(layer: int) -> Visit:
        """What z of a layer becomes."""
        fill = fills[layer]
        return lambda z: (fill if len(fill) == 1 else fill[lane.to(fill.device)]).to(z).expand_as(z)

    return {layer: {"z": put(layer)} for layer in range(len(fills))}


def knockout_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    source: Int[Tensor, " batch"],
    targets: Int[Tensor, "target batch"],
    gib: float | None,
) -> dict[str, Tensor]:
    """See `knockout.knockout_answers`; a variant for each first layer, and one that sees all."""
    dtype, first_layers = stream_dtype(model, anatomy), torch.arange(anatomy["n_layers"] + 1, device=source.device)
    lengths, width = prompts["last"] - source + 1, prompts["tokens"].shape[1]
    results: dict[str, Tensor] = {}
    for target, blocked in enumerate(targets):
        answered: dict[str, Tensor] = {}
        for length in lengths.unique().tolist():
            members = (lengths == length).nonzero().flatten()
            for part, rows in slot_passes(model, anatomy, first_layers, members, length, width, gib):
                found = _knocked_out(model, anatomy, prompts, source, blocked, part, rows, length, dtype)
                put_outcomes(answered, (len(first_layers), len(source)), part, rows, found)
        for name, values in answered.items():
            everything = results.setdefault(name, values.new_empty(len(targets), *values.shape))
            everything[target] = values
    return results


def _knocked_out(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    source: Int[Tensor, " batch"],
    blocked: Int[Tensor, " batch"],
    first_layers: Int[Tensor, " variant"],
    rows: Int[Tensor, " row"],
    length: int,
    dtype: torch.dtype,
) -> Outcomes:
    """Outcomes `[row, variant]` with the target hidden from each of some first layers on."""
    slots = (source[rows, None] + torch.arange(length, device=source.device))[:, None]
    count = len(first_layers)
    seeing, blind = (lay_out(anatomy, prompts, rows, slots, count, dtype, hidden) for hidden in (None, blocked[rows]))
    _, lanes, pack, _ = seeing["shape"]
    mask = prompts["mask"][rows.repeat_interleave(lanes)]
    of_slot = torch.cat([first_layers, first_layers[-1:].expand(lanes * pack - count)]).view(lanes, pack)
    of_slot = of_slot.repeat(len(rows), 1).repeat_interleave(length, 1)
    masks = {}
    for layer in range(int(first_layers.min()), anatomy["n_layers"]):
        window = anatomy["windows"][layer]
        open_mask, shut_mask = row_mask(mask, seeing, window), row_mask(mask, blind, window)
        shut = torch.cat([torch.zeros_like(mask, dtype=torch.bool), of_slot <= layer], 1)
        masks[layer] = torch.where(shut[:, None, :, None], shut_mask, open_mask)
    logits = run_behind(model, anatomy, prompts, seeing, {}, None, masks)
    return outcomes(logits, rows_of(prompts, rows))
