"""First-order against exact scores, as tables and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from entitrack.core.drawing import TESTED, Curve, Drawing, Line, Plot, point, sizes_of, spoken
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table

_LISTED = 5


def tables(result: Result) -> Sequence[Table]:
    """Agreement stage by stage, and the heads that come first."""
    facts = result.facts
    columns = ("rank_correlation", "overlap", "seconds")
    rows: list[tuple[Cell, ...]] = [
        (stage, *(result[name].number(stage=stage) for name in columns)) for stage in _stages(result)
    ]
    title = f"Path patching of {facts['model']} to first order, against exact scores"
    agreement = Table(title, ("stage", "rank correlation", f"overlap of top {facts['top']}", "seconds"), tuple(rows))
    return (agreement, _lowest(result))


def _lowest(result: Result) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage in _stages(result):
        first_order, exact = (result["score"].at(kind=kind, stage=stage).values for kind in ("first order", "exact"))
        for index in exact.flatten().argsort()[:_LISTED].tolist():
            layer, head = divmod(index, exact.shape[1])
            rows.append((stage, f"{layer}.{head}", float(first_order[layer, head]), float(exact[layer, head])))
    return Table("Lowest exact scores", ("stage", "layer.head", "first order", "exact"), tuple(rows))


def _stages(result: Result) -> Sequence[str]:
    return result["score"].names("stage")


def headline(result: Result) -> str:
    """How far the ranks agree with the exact ones, stage by stage, where there are ranks."""
    ranks = {stage: result["rank_correlation"].number(stage=stage) for stage in _stages(result)}
    told = (f"{stage} {rank:.2f}" for stage, rank in ranks.items() if not math.isnan(rank))
    return f"rank correlation with exact scores {', '.join(told) or 'is not defined'}"


def notes(result: Result) -> Sequence[str]:
    """What was computed."""
    return (
        f"over {result['effect'].size('prompt')} prompts; nan: no path leads from any head",
        "first order: slope of log p along the change of z, attention frozen as in path patching",
        "it takes two forward passes and one backward pass a batch, whatever the number of heads",
    )


def claim(result: Result) -> str:
    """How far ranks to first order agree with the exact ones."""
    agreed = {stage: result["rank_correlation"].number(stage=stage) for stage in _stages(result)}
    told = [f"{spoken(stage)} {ranks:.2f}" for stage, ranks in agreed.items() if not math.isnan(ranks)]
    return (
        f"Scores to first order rank the heads of {result.facts['model']} as the exact ones do"
        f" (rank correlation: {', '.join(told) or 'no stage is scored'})."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A high rank correlation over all heads does not say that the first few are the same.",
        "No interval is given: heads are not draws from anything.",
    )


def drawing(result: Result) -> Drawing:
    """A panel a stage, a point a head, and the line on which both scores are equal."""
    panels, unscored = [], []
    for stage in _stages(result):
        scores = result["score"].at(stage=stage)
        exact, first_order = (scores.at(kind=kind).values for kind in ("exact", "first order"))
        ranks = result["rank_correlation"].number(stage=stage)
        heads = ((exact != 0) | (first_order != 0)).nonzero().tolist()
        if not heads:
            unscored.append(f"{spoken(stage)}: no path leads from any head, so none is scored.")
            continue
        dots = (
            point(float(exact[layer, head]), float(first_order[layer, head]), told=f"head {layer}.{head}")
            for layer, head in heads
        )
        curves = (Curve("head", TESTED, tuple(dots), "none"),)
        title = spoken(stage) + ("" if math.isnan(ranks) else f"\nrank correlation {ranks:.2f}")
        panels.append(
            Plot(title, "exact score", "first-order score", curves, lines=(Line(0, "diagonal", label="equal"),))
        )
    title = f"First-order against exact path patching in {result.facts['model']}"
    notes = ("Scores: mean relative change of p(answer). Heads that have 0 in both are left out.", *unscored)
    return Drawing(title, tuple(panels), None, notes, sizes_of(result["effect"].prompts))
