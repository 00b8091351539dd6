"""Accuracy by layer, as a table and as curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import error_bars, new_figure


def tables(result: Result) -> Sequence[Table]:
    """A row a layer, a column a model."""
    correct = result["correct"]
    models = correct.names("model")
    by_layer = zip(*(curve(result, model) for model in models), strict=True)
    rows: list[tuple[Cell, ...]] = [(f"before layer {layer}", *cells) for layer, cells in enumerate(by_layer)]
    return (Table("Logit lens: answers right [95 %]", ("stream", *models), tuple(rows)),)


def curve(result: Result, model: str) -> list[Estimate]:
    """Accuracy by layer."""
    correct = result["correct"]
    return [correct.estimate(model=model, layer=layer) for layer in range(correct.size("layer"))]


def notes(result: Result) -> Sequence[str]:
    """How to read the table."""
    return ("the stream at the last token, through the final norm and the unembedding",)


def figure(result: Result) -> Figure:
    """Accuracy against the layer, a curve a model."""
    drawn, axes = new_figure()
    for model in result["correct"].names("model"):
        estimates = curve(result, model)
        heights = [entry.value for entry in estimates]
        axes[0, 0].errorbar(range(len(heights)), heights, error_bars(estimates), marker="o", label=model)
    axes[0, 0].set_xlabel("stream in front of layer")
    axes[0, 0].set_ylabel("answers right")
    axes[0, 0].legend()
    return drawn
