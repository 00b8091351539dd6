"""Curves of attention knockout."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.attention_knockout import KnockoutResult
from entitrack.report.figures.canvas import error_bars, new_figure, plot


@plot.register
def _(result: KnockoutResult) -> Figure:
    """F against the first blocked layer, a curve an edge, with intervals; the last point blocks nothing."""
    figure, axes = new_figure(width=6.4, height=3.4)
    axis = axes[0, 0]
    for source, target in result.by_edge:
        curve = result.curve((source, target))
        style = ":" if target.startswith("a random") else "-"
        values = [entry.value for entry in curve]
        label = f"{source} -> {target}"
        axis.errorbar(range(len(curve)), values, error_bars(curve), fmt=style, marker="o", markersize=3, label=label)
    last = len(next(iter(result.by_edge.values()))) - 1
    step = max(1, last // 8)
    axis.set_xticks([*range(0, last, step), last], [*map(str, range(0, last, step)), "none"])
    axis.set_xlabel("attention blocked from this layer on")
    axis.set_ylabel(f"F: {result.metric.value}, 95 % interval")
    axis.set_title(f"Attention knockout in {result.model}", fontsize=10)
    axis.legend(fontsize=7)
    return figure
