"""The blank page that every figure starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from entitrack.core.statistics.estimates import Estimate

ACCENT, BASE, DONOR = "#4878a8", "#9a9a9a", "#c8783c"
COLORS = [f"C{number}" for number in range(10)] + [colormaps["Dark2"](number) for number in range(8)]
"""Of many curves in one panel."""


def blank(width: float, height: float) -> Figure:
    """A figure that needs no display, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(rows: int = 1, columns: int = 1, width: float = 7, height: float = 3.2) -> tuple[Figure, Any]:
    """A figure that needs no display, and its axes `[row, column]`."""
    figure = blank(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False)


def error_bars(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Distances of the intervals' ends from the values, as matplotlib takes them; not a number draws no bar."""
    below = [entry.value - min(entry.low, entry.value) for entry in estimates]
    above = [max(entry.high, entry.value) - entry.value for entry in estimates]
    return [below, above]
