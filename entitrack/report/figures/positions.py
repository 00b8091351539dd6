"""Growth of the live positions."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.positions import PositionsResult
from entitrack.report.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure, plot
from entitrack.stats import estimate


@plot.register
def _(result: PositionsResult) -> Figure:
    """F as places are added, with intervals; what the other places would have given, as dots; the model's own F."""
    figure, axes = new_figure(width=1.6 + 1.1 * (len(result.steps) + 1))
    axis = axes[0, 0]
    found = [estimate(values, result.clusters) for values in (result.empty, *(step.values for step in result.steps))]
    for index, step in enumerate(result.steps, start=1):
        others = [value for name, value in step.others.items() if name != step.place]
        axis.plot([index] * len(others), others, "_", color=BASE, markersize=10)
    values = [entry.value for entry in found]
    axis.errorbar(range(len(found)), values, error_bars(found), marker="o", color=ACCENT, capsize=3)
    axis.axhline(float(result.whole.double().mean()), color=DONOR, linestyle="--", linewidth=1, label="whole model")
    names = ["none", *("\n".join(f"+ {place}" for place in step.places) for step in result.steps)]
    axis.set_xticks(range(len(found)), names, fontsize=8)
    axis.set_ylabel(f"F: {result.metric.value}, 95 % interval")
    axis.set_title(f"Live positions in {result.model}", fontsize=10)
    axis.legend(fontsize=8)
    return figure
