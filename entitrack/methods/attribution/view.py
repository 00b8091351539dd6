"""First-order against exact scores, as tables and a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import ACCENT, BASE, new_figure

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


def notes(result: Result) -> Sequence[str]:
    """What was computed."""
    return (
        f"over {result['effect'].size('prompt')} prompts; nan: no path leads from any head",
        "first order: slope of log p along the change of z, attention frozen as in path patching",
        "it takes two forward passes and one backward pass a batch, whatever the number of heads",
    )


def figure(result: Result) -> Figure:
    """A panel a stage, a point a head, and the line on which both scores are equal."""
    stages = _stages(result)
    drawn, axes = new_figure(1, len(stages), width=3.2 * len(stages))
    for axis, stage in zip(axes[0], stages, strict=True):
        scores = result["score"].at(stage=stage)
        exact, first_order = (scores.at(kind=kind).values.flatten().numpy() for kind in ("exact", "first order"))
        low, high = (float(end) for end in (scores.values.min(), scores.values.max()))
        axis.plot([low, high], [low, high], color=BASE, linewidth=1)
        axis.scatter(exact, first_order, s=14, color=ACCENT)
        axis.set_title(f"{stage}\nrank correlation {result['rank_correlation'].number(stage=stage):.2f}", fontsize=9)
        axis.set_xlabel("exact score")
        axis.set_ylabel("first order")
    return drawn
