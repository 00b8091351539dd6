"""Ablation: what a model answers when heads give what does not depend on the prompt's content (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Outcomes, Prompts, outcomes, variants_first
from entitrack.engine.layout import Layout, fill_lanes
from entitrack.engine.runs import at_places, logits_with, read_z, show
from entitrack.engine.sites import Visit


class Fill(TypedDict, total=False):
    """What ablated heads give: `values`, the same for every prompt; or the z of other prompts, `tokens` and `mask`."""

    values: Float[Tensor, "layer token width"]
    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]


def total_z(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum of z over prompts of one length, at every token index. Nothing is frozen, recomputed or replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding.

    Returns:
        `total` `[layer, token, width]`, float32, with all heads side by side.
    """
    totals: list[Tensor] = []
    add = {"z": lambda z: totals.append(z.float().sum(0))}
    show(model, anatomy, prompts, dict.fromkeys(range(anatomy["n_layers"]), add))
    return {"total": torch.stack([total.to(totals[0].device) for total in totals])}


def fill_values(model: Any, anatomy: Anatomy, fill: Fill) -> list[Float[Tensor, "#batch token width"]]:
    """What ablated heads take, by layer, with all heads side by side."""
    if "values" in fill:
        return list(fill["values"][:, None].unbind(0))
    return list(read_z(model, anatomy, fill, range(anatomy["n_layers"])).values())


def model_without(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    positions: Int[Tensor, "batch role"],
    removed: Bool[Tensor, "circuit role layer head"],
) -> Outcomes:
    """What the whole model answers when sets of heads are ablated, each at its role only (paper, section 4.2).

    Replaced: z of the removed heads at their role. Recomputed: everything after them. Frozen: nothing.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts, with `rivals`.
        fill: What ablated heads take.
        positions: Position of each role.
        removed: The heads of each set; a set without heads leaves the model as it is.

    Returns:
        Outcomes `[circuit, batch]`.
    """
    fills = fill_values(model, anatomy, fill)
    answered = []
    for heads in removed.unbind(0):
        visits: dict[int, dict[str, Visit]] = {}
        for layer in range(anatomy["n_layers"]):
            if bool(heads[:, layer].any()):
                live = ~heads[:, layer]
                visits[layer] = {
                    "z": lambda z, fill=fills[layer], live=live: without(z, fill, positions, live)  # type: ignore[misc]
                }
        answered.append(outcomes(logits_with(model, anatomy, prompts, visits)[:, None], prompts))
    return variants_first(answered)


def without(
    z: Float[Tensor, "batch token width"],
    fill: Float[Tensor, "#batch token width"],
    positions: Int[Tensor, "batch role"],
    live: Bool[Tensor, "role head"],
) -> Float[Tensor, "batch token width"]:
    """A copy of z with the heads that are not live at each role replaced."""
    replaced = z.clone()
    rows = torch.arange(z.shape[0], device=z.device)[:, None]
    fills = at_places(fill.to(z).expand_as(z), positions)
    replaced[rows, positions.to(z.device)] = select_z(at_places(z, positions), live, fills)
    return replaced


def select_z(
    z: Float[Tensor, "... width"], live: Bool[Tensor, "... head"], fill: Float[Tensor, "... width"]
) -> Float[Tensor, "... width"]:
    """Z with the heads that are not live replaced; leading axes broadcast."""
    keep = live.to(z.device)[..., None].expand(*live.shape, z.shape[-1] // live.shape[-1]).flatten(-2)
    return torch.where(keep, z, fill.to(z))


def ablated_visits(
    fills: Sequence[Float[Tensor, "#batch token width"]],
    layout: Layout,
    live: Bool[Tensor, "variant place layer head"],
    first: int,
) -> dict[int, dict[str, Visit]]:
    """Visits of a rerun, from a layer on, that replace the heads that are not live at each slot."""
    _, lanes, pack, _ = layout["shape"]
    by_lane = fill_lanes(live, lanes, pack)

    def ablate(z: Tensor, layer: int) -> Tensor:
        laid = z.reshape(*layout["shape"], -1)
        return select_z(laid, by_lane[..., layer, :], fill_at_slots(fills[layer], layout)).reshape(z.shape)

    return {layer: {"z": lambda z, layer=layer: ablate(z, layer)} for layer in range(first, len(fills))}  # type: ignore[misc]


def fill_at_slots(
    fill: Float[Tensor, "#batch token width"], layout: Layout
) -> Float[Tensor, "row lane pack place width"]:
    """What ablated heads take at each slot."""
    slots, rows = layout["slots"].to(fill.device), layout["rows"].to(fill.device)
    index = rows if fill.shape[0] > 1 else torch.zeros_like(rows)
    return fill[index[:, None, None, None], slots]
