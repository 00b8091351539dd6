"""What the donor carries into the base."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.cmap import CmapResult
from entitrack.report.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure, plot
from entitrack.stats import estimate


@plot.register
def _(result: CmapResult) -> Figure:
    """Accuracy of base, donor and each transplant, with intervals."""
    names = ["base", "donor", *result.heads]
    figure, axes = new_figure(height=1.2 + 0.29 * len(names))
    axis = axes[0, 0]
    found = [estimate(result.correct[name].float(), result.clusters) for name in names]
    values = [entry.value for entry in found]
    colors = [BASE, DONOR] + [ACCENT] * len(result.heads)
    axis.barh(range(len(names)), values, xerr=error_bars(found), color=colors, capsize=3)
    labels = [f"{result.base} (base)", f"{result.donor} (donor)", *(f"base + {name}" for name in result.heads)]
    axis.set_yticks(range(len(names)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy, 95 % interval")
    axis.set_title(f"CMAP: {result.donor} into {result.base}")
    for index in (0, 1):
        axis.axvline(values[index], color=colors[index], linewidth=1, linestyle="--", zorder=0)
    return figure
