"""The map of what could be gained, the heads that promise most, and how far single heads keep the promise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from entitrack.core.ranks import overlap_of_top, rank_correlation
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import new_figure

_LISTED = 12


def tables(result: Result) -> Sequence[Table]:
    """The best places, role by role the sums, and the agreement with what single heads do."""
    facts = result.facts
    pair = f"{facts['donor']} -> {facts['base']}"
    columns = ("component", "role", "layer", "head", "first order [95 %]", "exact [95 %]")
    best = Table(f"Gain of log p by first-order CMAP, {pair}: the best places", columns, tuple(_best(result)))
    return (best, _agreement(result)) if "exact" in result.measurements else (best,)


def _best(result: Result) -> list[tuple[Cell, ...]]:
    """The places of the largest gains, over all components."""
    found: list[tuple[float, tuple[Cell, ...]]] = []
    for component in result.facts["components"]:
        gain = result[component]
        for index in torch.ones(gain.values.shape[:-1]).nonzero().tolist():
            where = dict(zip(("role", "layer", "head"), index, strict=False))
            estimate = gain.estimate(**where)
            exact = result["exact"].estimate(**where) if component == "z" and is_moved(result, index) else None
            head = where.get("head")
            row = (component, gain.names("role")[where["role"]], where["layer"], head, estimate, exact)
            found.append((estimate.value, row))
    return [row for _, row in sorted(found, key=lambda entry: -entry[0])[:_LISTED]]


def is_moved(result: Result, index: Sequence[int]) -> bool:
    """Whether z of a head at a role was moved exactly."""
    return "exact" in result.measurements and not bool(result["exact"].values[tuple(index)].isnan().any())


def _agreement(result: Result) -> Table:
    """By role, over the heads that were moved: rank correlation, and overlap of the best."""
    rows: list[tuple[Cell, ...]] = []
    for role in result["z"].names("role"):
        first_order, exact = compared(result, role)
        count, top = len(exact), min(result.facts["top"], len(exact))
        overlap = overlap_of_top(-first_order, -exact, top) if top else None
        rows.append((role, count, rank_correlation(first_order, exact) if count > 1 else None, top, overlap))
    columns = ("role", "heads moved", "rank correlation", "best", "overlap")
    return Table("First order against single heads moved exactly", columns, tuple(rows))


def compared(result: Result, role: str) -> tuple[Tensor, Tensor]:
    """Mean gains of the heads that were moved at a role, to first order and exactly."""
    first_order, exact = (result[name].means(role=role).flatten() for name in ("z", "exact"))
    moved = ~exact.isnan()
    return first_order[moved], exact[moved]


def notes(result: Result) -> Sequence[str]:
    """What was computed."""
    return (
        "first order: slope of log p of the right answer in the recipient, times what the donor has more; in nats",
        "one forward pass of the donor, one forward and one backward pass of the recipient, however many places",
        "each place by itself: gains of places that act through each other do not add up",
        "heads moved: those of the largest first-order gain over all roles; the others were not tried",
    )


def figure(result: Result) -> Figure:
    """A panel a role and component: layer against head, or layer alone; one scale for all."""
    components, roles = result.facts["components"], result[result.facts["components"][0]].names("role")
    means = {name: result[name].means() for name in components}
    bound = max(float(values.abs().max()) for values in means.values()) or 1.0
    drawn, axes = new_figure(
        len(components), len(roles), width=2.6 * len(roles) + 1, height=0.6 + 2.2 * len(components)
    )
    for row, component in zip(axes, components, strict=True):
        for column, (axis, role) in enumerate(zip(row, roles, strict=True)):
            values = means[component][column].reshape(means[component].shape[1], -1)
            image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto", origin="lower")
            axis.set_title(f"{component} at {role}", fontsize=8)
            axis.set_xlabel("head" if component == "z" else "", fontsize=8)
            axis.set_ylabel("layer" if column == 0 else "", fontsize=8)
            axis.set_xticks(range(values.shape[1]) if component == "z" else [])
            axis.set_yticks(range(values.shape[0]))
    drawn.colorbar(image, ax=axes, shrink=0.8, label="gain of log p, first order (nats)")
    return drawn
