"""A drawing on a page, a column or two of a paper wide: panels in lines, one bar of colours, a legend, a caption."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from entitrack.core.drawing import RANDOM, Drawing, HeatMap, Panel, Plot, Rows, legend, spans
from entitrack.record.figures.colours import look
from entitrack.record.figures.panels import MARKERS, colour_map, draw_panel, norm

WIDTH = 7.0
"""Of a page, in inches: two columns of a paper."""
COLUMN = 3.4
"""Of one column."""
_POINTS, _CHARACTER = 72, 0.55
"""Points of an inch, and width of a character by the size of its font."""
_CAPTION = 6.5
RC: dict[Any, Any] = {"text.parse_math": False, "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "entitrack"}
"""No text is read as mathematics: `$` in a name is a dollar. Text in files stays text."""


def draw(drawing: Drawing, caption: str) -> Figure:
    """A figure that needs no display.

    Args:
        drawing: What is drawn.
        caption: What stands under it.
    """
    with rc_context(RC):
        widths = [needed_width(panel) for panel in drawing.panels]
        columns = columns_of(widths)
        ratios = column_widths(widths, columns)
        lines = [drawing.panels[start : start + columns] for start in range(0, len(drawing.panels), columns)]
        width = min(WIDTH, max(COLUMN, sum(ratios) + (0.7 if drawing.scale else 0.1)))
        wrapped = _wrapped(caption, width, _CAPTION)
        title = _wrapped(drawing.title, width, 10)
        entries = legend(drawing)
        height = sum(max(needed_height(panel) for panel in line) for line in lines)
        height += 0.2 * (title.count("\n") + 1) + 0.2 * _legend_lines(entries, width)
        below = 0.1 + 0.125 * (wrapped.count("\n") + 1)
        figure = Figure(figsize=(width, height + below), layout="constrained")
        FigureCanvasAgg(figure)
        above, foot = figure.subfigures(2, 1, squeeze=False, height_ratios=(height, below))[:, 0]
        above.suptitle(title, fontsize=9, fontweight="bold")
        foot.text(0.01, 0.98, wrapped, fontsize=_CAPTION, color="#555555", va="top", linespacing=1.3)
        _draw_panels(above, drawing, lines, ratios)
        _draw_legend(above, entries, width)
        return figure


def columns_of(widths: Sequence[float]) -> int:
    """How many panels of these widths stand side by side; lines are as even as can be."""
    most = max((count for count in range(1, len(widths) + 1) if sum(column_widths(widths, count)) <= WIDTH), default=1)
    return math.ceil(len(widths) / math.ceil(len(widths) / most)) if widths else 1


def column_widths(widths: Sequence[float], columns: int) -> list[float]:
    """Of each column, the width of the widest panel in it."""
    return [max(widths[number::columns], default=COLUMN) for number in range(columns)]


def needed_width(panel: Panel) -> float:
    """Inches that a panel needs to be read."""
    if isinstance(panel, HeatMap):
        names = max(map(len, panel.rows.entries), default=0)
        cell = 0.5 if panel.texts else max(0.05, 0.15 - 0.001 * len(panel.columns.entries))
        return max(1.5, 0.4 + 0.055 * names + cell * len(panel.columns.entries))
    if isinstance(panel, Plot):
        return max(2.1, min(WIDTH, 0.8 + sum(0.12 + 0.04 * len(name) for name in panel.x_names)))
    return 1.45 + 0.06 * max((len(row.name) for row in panel.rows), default=0)


def needed_height(panel: Panel) -> float:
    """The same from above."""
    if isinstance(panel, HeatMap):
        names = max(map(len, panel.columns.entries), default=0)
        cell = 0.36 if panel.texts else max(0.05, 0.17 - 0.001 * len(panel.rows.entries))
        lines = max((text.count("\n") for texts in panel.texts for text in texts), default=0)
        return max(1.5, 0.75 + 0.035 * names * (names > 4) + (cell + 0.05 * lines) * len(panel.rows.entries))
    if isinstance(panel, Plot):
        return 2.3 + 0.03 * max((len(name) for name in panel.x_names if not name.isdigit()), default=0)
    return 0.85 + 0.19 * max(1, len(panel.rows))


def _draw_panels(
    figure: SubFigure, drawing: Drawing, lines: Sequence[Sequence[Panel]], widths: Sequence[float]
) -> None:
    ends = spans(drawing)
    heights = [max(needed_height(panel) for panel in line) for line in lines]
    columns, ratios = len(widths), {"height_ratios": heights or [1], "width_ratios": widths}
    grid = figure.subplots(max(1, len(lines)), columns, squeeze=False, gridspec_kw=ratios)
    axes = [axis for line in grid for axis in line]
    most = [max(len(panel.rows) if isinstance(panel, Rows) else 0 for panel in line) for line in lines]
    for number, (axis, panel) in enumerate(zip(axes, drawing.panels, strict=False)):
        draw_panel(axis, panel, drawing.scale, ends, most[number // columns])
    for axis in axes[len(drawing.panels) :]:
        axis.set_visible(False)
    _without_repeated_names(grid, lines)
    if drawing.scale is not None:
        colours = ScalarMappable(norm(drawing.scale), colour_map(drawing.scale))
        maps = [axis for axis, panel in zip(axes, drawing.panels, strict=False) if isinstance(panel, HeatMap)]
        bar = figure.colorbar(colours, ax=maps, shrink=0.9, aspect=30 if len(lines) > 1 else 18, pad=0.01)
        bar.set_label(textwrap.fill(drawing.scale.label, 34), fontsize=7)
        bar.ax.tick_params(labelsize=6.5)


def _without_repeated_names(grid: Any, lines: Sequence[Sequence[Panel]]) -> None:
    """Of maps side by side that have the same rows, only the first one names them; the same of plots."""
    for axes, line in zip(grid, lines, strict=False):
        for number in range(1, len(line)):
            one, other = line[0], line[number]
            axis = axes[number]
            if isinstance(one, HeatMap) and isinstance(other, HeatMap) and one.rows == other.rows:
                axis.set_yticklabels([])
                axis.set_ylabel("")
            elif isinstance(one, Plot) and isinstance(other, Plot) and one.y == other.y:
                axis.tick_params(labelleft=False)
                axis.set_ylabel("")
            elif not isinstance(one, HeatMap | Plot) and not isinstance(other, HeatMap | Plot):
                axis.set_ylabel("")


def _legend_lines(entries: Sequence[tuple[str, str, str]], width: float) -> int:
    return math.ceil(len(entries) / _columns(entries, width)) if entries else 0


def _columns(entries: Sequence[tuple[str, str, str]], width: float) -> int:
    longest = max(len(label) for _, _, label in entries)
    return max(1, min(len(entries), int(width * _POINTS / ((longest + 6) * 7 * _CHARACTER))))


def _draw_legend(figure: SubFigure, entries: Sequence[tuple[str, str, str]], width: float) -> None:
    if entries:
        handles = [_handle(kind, hue) for kind, hue, _ in entries]
        labels = [label for _, _, label in entries]
        columns = _columns(entries, width)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)


def _handle(kind: str, hue: str) -> Line2D | Patch:
    """What stands in a legend for something of a hue."""
    shape = look(hue)
    if kind == "band":
        return Patch(color=shape.paper, alpha=0.25)
    if kind == "draws":
        return Line2D([], [], color=look(RANDOM).paper, marker="|", linestyle="none", markersize=8)
    if kind in ("line", "stroke"):
        return Line2D([], [], color=shape.paper, linestyle="--" if kind == "line" else "-")
    styles: dict[str, Literal["-", ":", "none"]] = {"curve": "-", "dotted": ":", "mark": "none"}
    return Line2D([], [], color=shape.paper, linestyle=styles[kind], marker=MARKERS[shape.shape], markersize=4.5)


def _wrapped(text: str, width: float, size: float) -> str:
    """Text in lines that are no wider than the page."""
    return textwrap.fill(text, max(20, int(width * _POINTS / (size * _CHARACTER)) - 2))
