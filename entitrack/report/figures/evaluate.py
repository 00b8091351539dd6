"""Accuracy of the family."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.evaluate import EvaluateResult
from entitrack.report.figures.canvas import error_bars, new_figure, plot


@plot.register
def _(result: EvaluateResult) -> Figure:
    """Accuracy against the number of boxes, or against the queried box where there is one number only."""
    figure, axes = new_figure()
    axis = axes[0, 0]
    boxes = sorted({found.boxes for found in result.answers})
    for model in dict.fromkeys(found.model for found in result.answers):
        own = [found for found in result.answers if found.model == model]
        if len(boxes) > 1:
            points = [(found.boxes, found.accuracy()) for found in own]
        else:
            points = [(query + 1, own[0].accuracy(query)) for query in sorted(own[0].query.unique().tolist())]
        where = [place for place, _ in points]
        values = [entry.value for _, entry in points]
        errors = error_bars([entry for _, entry in points])
        axis.errorbar(where, values, yerr=errors, marker="o", capsize=3, label=model)
    axis.set_xlabel("boxes" if len(boxes) > 1 else "position of the queried box")
    axis.set_ylabel("accuracy, 95 % interval")
    axis.set_ylim(0, 1.02)
    axis.legend()
    return figure
