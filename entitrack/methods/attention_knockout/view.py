"""F by first blocked layer, as tables and as curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.attention_knockout.settings import RANDOM
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import error_bars, new_figure


def tables(result: Result) -> Sequence[Table]:
    """F by first blocked layer: a table a source, a column a target."""
    sources = dict.fromkeys(edge["source"] for edge in result.facts["edges"])
    return tuple(_table(result, source) for source in sources)


def _table(result: Result, source: str) -> Table:
    facts, values = result.facts, measured(result)
    curves = {
        edge["target"] or RANDOM: curve(result, number)
        for number, edge in enumerate(facts["edges"])
        if edge["source"] == source
    }
    rows: list[tuple[Cell, ...]] = [
        ("none" if layer == "none" else f"from {layer}", *(estimates[number] for estimates in curves.values()))
        for number, layer in enumerate(values.names("first_blocked"))
    ]
    n = values.size("prompt")
    title = f"{facts['model']}, what {source} no longer sees; F is {facts['metric']} [95 %], n = {n}"
    return Table(title, ("layers blocked", *curves), tuple(rows))


def curve(result: Result, edge: int) -> list[Estimate]:
    """Mean F of the edge of that number, by first blocked layer."""
    values = measured(result)
    return [values.estimate(edge=edge, first_blocked=first) for first in range(values.size("first_blocked"))]


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    return (
        "from k: in layers k and after, no head attends from the first role to the second",
        f"{RANDOM}: one a prompt, before the source, neither the first token nor a target of that source",
        "95 % intervals over contexts",
    )


def figure(result: Result) -> Figure:
    """F against the first blocked layer, a curve an edge, with intervals; the last point blocks nothing."""
    facts, values = result.facts, measured(result)
    drawn, axes = new_figure(width=6.4, height=3.4)
    axis = axes[0, 0]
    for number, edge in enumerate(facts["edges"]):
        estimates = curve(result, number)
        style = "-" if edge["target"] else ":"
        heights = [entry.value for entry in estimates]
        label = f"{edge['source']} -> {edge['target'] or RANDOM}"
        bars = error_bars(estimates)
        axis.errorbar(range(len(heights)), heights, bars, fmt=style, marker="o", markersize=3, label=label)
    last = values.size("first_blocked") - 1
    step = max(1, last // 8)
    axis.set_xticks([*range(0, last, step), last], [*map(str, range(0, last, step)), "none"])
    axis.set_xlabel("attention blocked from this layer on")
    axis.set_ylabel(f"F: {facts['metric']}, 95 % interval")
    axis.set_title(f"Attention knockout in {facts['model']}", fontsize=10)
    axis.legend(fontsize=7)
    return drawn
