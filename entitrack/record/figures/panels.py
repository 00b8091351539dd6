"""Panels on matplotlib's axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from entitrack.core.drawing import (
    RANDOM,
    ColourScale,
    Curve,
    HeatMap,
    Line,
    Mark,
    Panel,
    Plot,
    Point,
    Row,
    Rows,
    Span,
)
from entitrack.core.statistics.estimates import Estimate
from entitrack.record.figures.colours import BLUE, DEEP, RED, WHITE, look

MARKERS = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "down": "v", "cross": "X", "plus": "P", "star": "*",
}  # fmt: skip
"""Shape -> matplotlib's name of it."""
INK, FAINT = "#333333", "#DDDDDD"
_LABEL = 28
"""Characters of a line of an axis' name."""
_MOST_NAMES = 12
"""More names of numbers than these along an axis would crowd it."""


def draw_panel(axis: Axes, panel: Panel, scale: ColourScale | None, ends: Mapping[str, Span], most: int) -> None:
    """One panel; `ends` has those of every axis of numbers by its quantity, `most` is of the rows beside it."""
    axis.set_title(panel.title, fontsize=8)
    axis.tick_params(labelsize=7, color=INK, length=2.5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(isinstance(panel, HeatMap))
    if isinstance(panel, HeatMap):
        assert scale is not None, "a map has a scale"
        _draw_map(axis, panel, scale)
    elif isinstance(panel, Rows):
        _draw_rows(axis, panel, ends, most)
    else:
        _draw_plot(axis, panel, ends)


def colour_map(scale: ColourScale) -> LinearSegmentedColormap:
    """The colours of a scale."""
    ends = {"low": (RED, WHITE, BLUE), "high": (BLUE, WHITE, RED), None: (WHITE, DEEP)}[scale.worse]
    return LinearSegmentedColormap.from_list("scale", [[part / 255 for part in colour] for colour in ends])


def norm(scale: ColourScale) -> Normalize:
    """How far along its colours a value of a scale is."""
    if not scale.root:
        return Normalize(scale.low, scale.high)
    return FuncNorm((_root, _square), scale.low, scale.high)


def _root(values: Any) -> Any:
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: Any) -> Any:
    return np.sign(values) * np.square(values)


def _draw_map(axis: Axes, panel: HeatMap, scale: ColourScale) -> None:
    axis.set_facecolor("#F4F4F4")
    shape = (len(panel.rows.entries), len(panel.columns.entries))
    for row, values in enumerate(panel.values):
        for column, value in enumerate(values):
            if math.isnan(value):
                place = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#BBBBBB", lw=0)
                axis.add_patch(place)
    axis.imshow(
        panel.values,
        cmap=colour_map(scale),
        norm=norm(scale),
        aspect="auto",
        origin="lower" if panel.upward else "upper",
    )
    for row, texts in enumerate(panel.texts):
        for column, text in enumerate(texts):
            dark = abs(scale.depth(panel.values[row][column])) > 0.55
            colour = "white" if dark else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=6, color=colour, linespacing=1.1)
    for row, column in panel.ringed:
        axis.plot(column, row, "o", markersize=6, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.1)
    axis.set_xlim(-0.5, shape[1] - 0.5)
    axis.set_xlabel(panel.columns.label, fontsize=7)
    axis.set_ylabel(panel.rows.label, fontsize=7)
    _name(axis, "x", panel.columns.entries)
    _name(axis, "y", panel.rows.entries)


def _name(axis: Axes, direction: str, entries: Sequence[str]) -> None:
    """Names along an axis; of many numbers only some, long names aslant."""
    numbers = all(entry.isdigit() for entry in entries)
    places = list(range(len(entries)))
    if numbers and len(entries) > _MOST_NAMES:
        places = places[:: math.ceil(len(entries) / _MOST_NAMES)]
    names = [entries[place] for place in places]
    if direction == "y":
        axis.set_yticks(places, names)
    elif numbers or max(map(len, names), default=0) <= 4:
        axis.set_xticks(places, names)
    else:
        axis.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")


def _draw_lines(axis: Axes, lines: Sequence[Line]) -> None:
    for line in lines:
        style: dict[str, Any] = {"color": look(line.hue).paper, "linestyle": "--", "linewidth": 0.9, "zorder": 0}
        if line.direction == "up":
            axis.axvline(line.at, **style)
        elif line.direction == "across":
            axis.axhline(line.at, **style)
        else:
            axis.axline((line.at, line.at), slope=1, **style)


def _draw_rows(axis: Axes, panel: Rows, ends: Mapping[str, Span], most: int) -> None:
    _draw_lines(axis, panel.lines)
    for number, row in enumerate(panel.rows):
        if number % 2:
            axis.axhspan(number - 0.5, number + 0.5, color="#F5F5F5", zorder=-2, linewidth=0)
        for place, mark in enumerate(row.marks):
            _draw_mark(axis, mark, number + 0.3 * (place - (len(row.marks) - 1) / 2))
        if row.draws:
            _draw_draws(axis, row, number)
        if row.text:
            axis.annotate(row.text, (1.0, number), (3, 0), xycoords=("axes fraction", "data"),
                          textcoords="offset points", va="center", fontsize=6.5, color=INK)  # fmt: skip
    axis.set_ylim(most - 0.5, -0.5)
    axis.set_yticks(range(len(panel.rows)), [row.name for row in panel.rows])
    axis.set_xlabel(textwrap.fill(panel.axis, _LABEL), fontsize=7)
    axis.set_ylabel(panel.names, fontsize=7)
    if panel.axis in ends:
        axis.set_xlim(*ends[panel.axis])


def _draw_mark(axis: Axes, mark: Mark, height: float) -> None:
    """A value, and its interval where it has one: not a number draws no bar."""
    value = mark.value if isinstance(mark.value, Estimate) else None
    where, shape = value.value if value else float(mark.value), look(mark.hue)  # type: ignore[arg-type]
    bars = [[where - min(value.low, where)], [max(value.high, where) - where]] if value else None
    style: dict[str, Any] = {
        "fmt": MARKERS[shape.shape],
        "color": shape.paper,
        "markersize": 4.5,
        "capsize": 2,
        "linewidth": 1.3,
        "clip_on": False,
    }
    axis.errorbar([where], [height], xerr=bars, **style)


def _draw_draws(axis: Axes, row: Row, height: int) -> None:
    """Random controls, each as a tick, their middle nine tenths as a bar, and their median in it."""
    colour = look(RANDOM).paper
    low, middle, high = quantiles(row.draws)
    axis.plot([low, high], [height, height], color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axis.plot(row.draws, [height] * len(row.draws), "|", color=colour, markersize=7, markeredgewidth=0.7, alpha=0.8)
    if len(row.draws) > 1:
        axis.plot([middle], [height], "|", color=INK, markersize=9, markeredgewidth=1.4)


def quantiles(draws: Sequence[float]) -> tuple[float, float, float]:
    """5 %, median and 95 % of some numbers, linear between them."""
    ordered = sorted(draws)
    places = [share * (len(ordered) - 1) for share in (0.05, 0.5, 0.95)]
    found = []
    for place in places:
        below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
        found.append(below + (place - math.floor(place)) * (above - below))
    return found[0], found[1], found[2]


def _draw_plot(axis: Axes, panel: Plot, ends: Mapping[str, Span]) -> None:
    _draw_lines(axis, panel.lines)
    for band in panel.bands:
        axis.fill_between(band.x, band.low, band.high, color=look(band.hue).paper, alpha=0.25, linewidth=0)
    for curve in panel.curves:
        _draw_curve(axis, curve)
    axis.set_xlabel(textwrap.fill(panel.x, _LABEL), fontsize=7)
    axis.set_ylabel(panel.y, fontsize=7)
    axis.grid(axis="y", color=FAINT, linewidth=0.5, zorder=-3)
    axis.set_axisbelow(True)
    if panel.x in ends:
        axis.set_xlim(*ends[panel.x])
    if panel.y in ends:
        axis.set_ylim(*ends[panel.y])
    if panel.x_names:
        _name(axis, "x", panel.x_names)
    elif all(entry.x == round(entry.x) for curve in panel.curves for entry in curve.points):
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _draw_curve(axis: Axes, curve: Curve) -> None:
    shape = look(curve.hue)
    style: dict[str, Any] = {
        "color": shape.paper,
        "linestyle": {"solid": "-", "dotted": ":", "none": "none"}[curve.line],
        "linewidth": 0.5 if curve.faint else 1.3,
        "marker": MARKERS[shape.shape] if curve.marks else "none",
        "markersize": 2.5 if curve.faint else 4,
        "alpha": 0.4 if curve.faint else 1,
        "zorder": 1 if curve.faint else 2,
    }
    x, y = [entry.x for entry in curve.points], [entry.y for entry in curve.points]
    if any(math.isfinite(end) for entry in curve.points for end in (entry.low, entry.left)):
        up, across = (_bars(curve.points, *names) for names in (("y", "low", "high"), ("x", "left", "right")))
        axis.errorbar(x, y, yerr=up, xerr=across, capsize=2, elinewidth=0.9, **style)
    else:
        axis.plot(x, y, **style)


def _bars(points: Sequence[Point], value: str, low: str, high: str) -> list[list[float]] | None:
    """Distances of the intervals' ends from the values, as matplotlib takes them; None where there is no interval."""
    if all(math.isnan(getattr(entry, low)) for entry in points):
        return None
    below = [getattr(entry, value) - min(getattr(entry, low), getattr(entry, value)) for entry in points]
    above = [max(getattr(entry, high), getattr(entry, value)) - getattr(entry, value) for entry in points]
    return [below, above]
