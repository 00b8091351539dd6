"""Rows as SVG: values with intervals from left to right, random controls as ticks under them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from entitrack.core.drawing import Line, Mark, Row, Rows, Span
from entitrack.core.statistics.estimates import Estimate
from entitrack.record.figures.panels import quantiles
from entitrack.record.report.axes import Scale, below, lines_of
from entitrack.record.report.marks import hue_class, shape
from entitrack.record.report.markup import Markup, tag

_ROW, _CHARACTER, _WIDTH = 23.0, 6.9, 190.0


def draw_rows(panel: Rows, ends: Mapping[str, Span]) -> tuple[list[Markup], float, float]:
    """A panel's elements, width and height."""
    longest = max((len(row.name) for row in panel.rows), default=0)
    left = 12 + _CHARACTER * longest + (16 if panel.names else 0)
    texts = _CHARACTER * max((len(row.text) for row in panel.rows), default=0)
    bottom = 6 + _ROW * len(panel.rows)
    scale = Scale(ends.get(panel.axis, (0, 1)), left, left + _WIDTH)
    drawn: list[Markup] = []
    for number, row in enumerate(panel.rows):
        y = 6 + _ROW * (number + 0.5)
        if number % 2:
            drawn.append(tag("rect", x=left, y=y - _ROW / 2, width=_WIDTH, height=_ROW, class_="stripe"))
        drawn.append(tag("text", row.name, x=left - 8, y=y + 4, class_="name end"))
        drawn.append(tag("text", row.text, x=left + _WIDTH + 6, y=y + 4, class_="tick"))
    drawn += [_line(line, scale, bottom) for line in panel.lines]
    for number, row in enumerate(panel.rows):
        drawn += _values(row, scale, 6 + _ROW * (number + 0.5))
    drawn += below(scale, bottom, panel.axis, 5)
    if panel.names:
        turn = f"rotate(-90 12 {bottom / 2:.1f})"
        drawn.append(tag("text", panel.names, x=12.0, y=bottom / 2, class_="label middle", transform=turn))
    return drawn, left + _WIDTH + texts + 18, bottom + 28 + 14 * len(lines_of(scale, panel.axis))


def _line(line: Line, scale: Scale, bottom: float) -> Markup:
    x = scale(line.at)
    return tag("line", x1=x, x2=x, y1=6, y2=bottom, class_=f"reference {hue_class(line.hue)}")


def _values(row: Row, scale: Scale, y: float) -> list[Markup]:
    drawn = _draws(row, scale, y) if row.draws else []
    for place, mark in enumerate(row.marks):
        drawn += _mark(row, mark, scale, y + 9 * (place - (len(row.marks) - 1) / 2))
    return drawn


def _mark(row: Row, mark: Mark, scale: Scale, y: float) -> list[Markup]:
    value = mark.value if isinstance(mark.value, Estimate) else None
    where = value.value if value else float(mark.value)  # type: ignore[arg-type]
    if not math.isfinite(where):
        return [tag("text", str(mark.value), x=scale.start + 4, y=y + 4, class_="tick")]
    told = f"{row.name}: {value if value else f'{where:.4g}'}" + (f" ({mark.label})" if mark.label else "")
    drawn = []
    if value and math.isfinite(value.low):
        drawn.append(interval(scale(min(value.low, where)), scale(max(value.high, where)), y, mark.hue))
    return [*drawn, shape(mark.hue, scale(where), y, told)]


def interval(low: float, high: float, y: float, hue: str) -> Markup:
    """An interval from left to right."""
    path = f"M{low:.1f} {y - 3.5:.1f}v7M{low:.1f} {y:.1f}H{high:.1f}m0 -3.5v7"
    return tag("path", d=path, class_=f"bar {hue_class(hue)}")


def _draws(row: Row, scale: Scale, y: float) -> list[Markup]:
    low, middle, high = quantiles(row.draws)
    told = f"{row.name}: {len(row.draws)} sets, median {middle:.4g}, 5 to 95 % {low:.4g} to {high:.4g}"
    ticks = "".join(f"M{scale(value):.1f} {y - 6:.1f}v12" for value in sorted(set(row.draws)))
    bar = tag("line", x1=scale(low), x2=scale(high), y1=y, y2=y, class_="spread hue-random")
    median = tag("line", x1=scale(middle), x2=scale(middle), y1=y - 8, y2=y + 8, class_="median")
    area = tag("rect", x=scale(min(row.draws)) - 6, y=y - 10, width=scale(max(row.draws)) - scale(min(row.draws)) + 12,
               height=20, class_="area", data_tip=told)  # fmt: skip
    return [bar, tag("path", d=ticks, class_="draws hue-random"), *([median] if len(row.draws) > 1 else []), area]
