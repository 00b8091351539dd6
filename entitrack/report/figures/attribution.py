"""First-order against exact scores."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.attribution import AttributionResult
from entitrack.report.figures.canvas import ACCENT, BASE, new_figure, plot


@plot.register
def _(result: AttributionResult) -> Figure:
    """A panel a stage, a point a head, and the line on which both scores are equal."""
    count = max(1, len(result.stages))
    figure, axes = new_figure(1, count, width=3.2 * count)
    for axis, found in zip(axes[0], result.stages, strict=False):
        exact, first = found.exact.flatten().numpy(), found.approximate.flatten().numpy()
        low, high = float(min(exact.min(), first.min())), float(max(exact.max(), first.max()))
        axis.plot([low, high], [low, high], color=BASE, linewidth=1)
        axis.scatter(exact, first, s=14, color=ACCENT)
        axis.set_title(f"{found.stage}\nrank correlation {found.correlation:.2f}", fontsize=9)
        axis.set_xlabel("exact score")
        axis.set_ylabel("first order")
    return figure
