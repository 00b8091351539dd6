"""What panels of a drawing share: the ends of axes and colours, and a legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from entitrack.core.drawing.hues import RANDOM
from entitrack.core.drawing.panels import ColourScale, Curve, Drawing, HeatMap, Panel, Plot, Rows, Span
from entitrack.core.statistics.estimates import Estimate


def even_scale(label: str, values: Iterable[float], worse: Literal["low", "high"], root: bool = False) -> ColourScale:
    """A scale about 0 that has all of some values; those that are not numbers do not count."""
    bound = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    return ColourScale(label, -bound, bound, worse, root)


def legend(drawing: Drawing) -> list[tuple[str, str, str]]:
    """Kind, hue and label of everything that has a label, each once; kinds are those of the data's classes."""
    return list(dict.fromkeys(entry for panel in drawing.panels for entry in _labelled(panel) if entry[2]))


def _labelled(panel: Panel) -> Iterator[tuple[str, str, str]]:
    if isinstance(panel, HeatMap):
        return
    if isinstance(panel, Rows):
        yield from (("mark", mark.hue, mark.label) for row in panel.rows for mark in row.marks)
        yield from (("draws", RANDOM, panel.draws) for row in panel.rows if row.draws)
    else:
        yield from ((_kind(curve), curve.hue, curve.label) for curve in panel.curves)
        yield from (("band", band.hue, band.label) for band in panel.bands)
    yield from (("line", line.hue, line.label) for line in panel.lines)


def _kind(curve: Curve) -> str:
    """How a legend shows a curve."""
    if curve.line == "none":
        return "mark"
    return ("dotted" if curve.line == "dotted" else "curve") if curve.marks else "stroke"


def spans(drawing: Drawing) -> Mapping[str, Span]:
    """Name of a quantity -> ends of every axis that shows it, so that panels can be compared."""
    known: dict[str, list[float]] = {}
    for panel in drawing.panels:
        for quantity, limits, values in _shown(panel):
            known.setdefault(quantity, []).extend(limits or _widened(values))
    return {quantity: (min(ends), max(ends)) for quantity, ends in known.items() if ends}


def _shown(panel: Panel) -> Iterator[tuple[str, Span | None, list[float]]]:
    """Quantity, limits that were asked for, and values of every axis of numbers."""
    if isinstance(panel, Rows):
        marks = [mark.value for row in panel.rows for mark in row.marks]
        values = [end for value in marks for end in _ends(value)]
        values += [value for row in panel.rows for value in row.draws] + [line.at for line in panel.lines]
        yield panel.axis, panel.limits, values
    elif isinstance(panel, Plot):
        points = [entry for curve in panel.curves for entry in curve.points]
        x = [value for entry in points for value in (entry.x, entry.left, entry.right)]
        y = [value for entry in points for value in (entry.y, entry.low, entry.high)]
        y += [value for band in panel.bands for edge in (band.low, band.high) for value in edge]
        y += [line.at for line in panel.lines if line.direction == "across"]
        x_limits = (-0.5, len(panel.x_names) - 0.5) if panel.x_names else panel.x_limits
        yield panel.x, x_limits, x
        yield panel.y, panel.y_limits, y


def _ends(value: Estimate | float) -> Sequence[float]:
    return (value.value, value.low, value.high) if isinstance(value, Estimate) else (float(value),)


def _widened(values: Iterable[float]) -> list[float]:
    """Both ends of some values, a little farther apart."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return []
    margin = 0.05 * (max(finite) - min(finite)) or 0.5
    return [min(finite) - margin, max(finite) + margin]
