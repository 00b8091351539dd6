"""The map of what could be gained, the heads that promise most, and how far single heads keep the promise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from entitrack.core.drawing import Drawing, HeatMap, Names, even_scale, nested, sizes_of, spoken
from entitrack.core.ranks import overlap_of_top, rank_correlation
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table

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


def headline(result: Result) -> str:
    """The place that promises most."""
    component, role, layer, head, first_order, exact = _best(result)[0]
    place = f"{component} {layer}{'' if head is None else f'.{head}'} at {role}"
    return f"{place} gains most log p, {first_order}" + ("" if exact is None else f"; exactly {exact}")


def notes(result: Result) -> Sequence[str]:
    """What was computed."""
    return (
        "first order: slope of log p of the right answer in the recipient, times what the donor has more; in nats",
        "one forward pass of the donor, one forward and one backward pass of the recipient, however many places",
        "each place by itself: gains of places that act through each other do not add up",
        "heads moved: those of the largest first-order gain over all roles; the others were not tried",
    )


def claim(result: Result) -> str:
    """The most promising place, and how far single heads keep what first order promises."""
    best = _best(result)[0]
    component, role, layer, head, first_order, exact = best
    place = f"{component} {layer}.{head}" if head is not None else f"{component} of layer {layer}"
    moved = f"; moved exactly, {exact}" if exact is not None else ""
    return (
        f"The most is to be gained, to first order, by {place} at {spoken(str(role))}: {first_order} nats of log p"
        f" from {result.facts['donor']} into {result.facts['base']}{moved}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "First order is a slope, not an effect: read it beside the exact gains where there are some.",
        "Gains of places that act through each other do not add up.",
    )


def drawing(result: Result) -> Drawing:
    """A panel a role and component: layer against head, or layer alone; one scale for all."""
    facts, panels, shown = result.facts, [], []
    for component in facts["components"]:
        gain = result[component]
        for number, role in enumerate(gain.names("role")):
            values = gain.means()[number].reshape(gain.size("layer"), -1)
            heads = gain.names("head") if "head" in gain.axes else ("",)
            names = Names("layer", gain.names("layer")), Names("head" if "head" in gain.axes else "", heads)
            ringed = tuple((row, column) for row, column in torch.ones_like(values).nonzero().tolist()
                           if component == "z" and is_moved(result, (number, row, column)))  # fmt: skip
            title = f"{component} at {spoken(role)}"
            panels.append(HeatMap(title, *names, nested(values), ringed=ringed, upward=True))
            shown += values.flatten().tolist()
    scale = even_scale("gain of log p(answer), first order (nats)", shown, "low", root=True)
    title = f"What could be gained by moving {facts['donor']} into {facts['base']}, place by place"
    notes = ("Ringed: heads that were moved exactly, too." if "exact" in result.measurements else "",)
    return Drawing(title, tuple(panels), scale, tuple(filter(None, notes)), sizes_of(gain.prompts))
