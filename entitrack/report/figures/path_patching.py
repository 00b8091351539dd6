"""Scores of all heads."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from entitrack.methods.path_patching_result import PathPatchingResult
from entitrack.report.figures.canvas import new_figure, plot


@plot.register
def _(result: PathPatchingResult) -> Figure:
    """Score of every head, a panel a stage; the chosen heads are ringed."""
    figure, axes = new_figure(1, max(1, len(result.stages)), width=3.2 * max(1, len(result.stages)))
    for axis, found in zip(axes[0], result.stages, strict=False):
        limit = float(found.scores.nan_to_num().abs().max()) or 1.0
        image = axis.imshow(found.scores.numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for layer, head in found.heads:
            axis.plot(head, layer, "o", markersize=11, markerfacecolor="none", markeredgecolor="black")
        axis.set_title(f"{found.stage.name}\nat {found.stage.role}", fontsize=9)
        axis.set_xlabel("head")
        axis.set_ylabel("layer")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.colorbar(image, ax=axis, shrink=0.8)
    return figure
