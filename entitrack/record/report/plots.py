"""Plots as SVG: curves, points with intervals, bands and lines."""

from __future__ import annotations

import math
from collections.abc import Mapping

from entitrack.core.drawing import Band, Curve, Line, Plot, Point, Span
from entitrack.record.report.axes import Scale, below, beside, lines_of
from entitrack.record.report.marks import hue_class, shape
from entitrack.record.report.markup import Markup, tag

_WIDTH, _HEIGHT, _LEFT, _TOP, _CHARACTER = 214.0, 190.0, 56.0, 8.0, 6.2


def draw_plot(panel: Plot, ends: Mapping[str, Span]) -> tuple[list[Markup], float, float]:
    """A plot's elements, width and height."""
    width = max(_WIDTH, 30.0 * len(panel.x_names))
    right, bottom = _LEFT + width, _TOP + _HEIGHT
    x = Scale(ends.get(panel.x, (0, 1)), _LEFT, right)
    y = Scale(ends.get(panel.y, (0, 1)), bottom, _TOP)
    drawn = beside(y, _LEFT, right, panel.y)
    drawn += [_band(band, x, y) for band in panel.bands]
    drawn += [_line(line, x, y) for line in panel.lines]
    for curve in sorted(panel.curves, key=lambda curve: not curve.faint):
        drawn += _curve(curve, x, y)
    if not panel.x_names:
        return [*drawn, *below(x, bottom, panel.x, 5)], right + 14, bottom + 30 + 14 * len(lines_of(x, panel.x))
    names, slant = _names(panel, x, bottom)
    label = tag("text", panel.x, x=(_LEFT + right) / 2, y=bottom + 34 + slant, class_="label middle")
    return [*drawn, *names, label], right + 14 + slant * 1.75, bottom + 44 + slant


def _names(panel: Plot, x: Scale, bottom: float) -> tuple[list[Markup], float]:
    """Names under a plot, and how much room they take more than numbers."""
    room = (x.stop - x.start) / len(panel.x_names)
    longest = max(len(part) for name in panel.x_names for part in name.split("\n"))
    slanted = longest * _CHARACTER > room
    drawn = [tag("line", x1=x.start, x2=x.stop, y1=bottom, y2=bottom, class_="axis")]
    step = math.ceil(len(panel.x_names) / 16)
    for number, name in list(enumerate(panel.x_names))[::step]:
        place = x(number)
        turned = {"transform": f"rotate(30 {place:.1f} {bottom + 14:.1f})"} if slanted else {}
        text = name.replace("\n", " ")
        drawn.append(tag("text", text, x=place, y=bottom + 16, class_="tick" if slanted else "tick middle", **turned))
    return drawn, longest * _CHARACTER * 0.5 if slanted else 0


def _band(band: Band, x: Scale, y: Scale) -> Markup:
    there = [f"{x(at):.1f},{y(high):.1f}" for at, high in zip(band.x, band.high, strict=True)]
    back = [f"{x(at):.1f},{y(low):.1f}" for at, low in zip(band.x, band.low, strict=True)]
    return tag("polygon", points=" ".join([*there, *reversed(back)]), class_=f"band {hue_class(band.hue)}")


def _line(line: Line, x: Scale, y: Scale) -> Markup:
    style = f"reference {hue_class(line.hue)}"
    if line.direction == "up":
        return tag("line", x1=x(line.at), x2=x(line.at), y1=y.start, y2=y.stop, class_=style)
    if line.direction == "across":
        told = f"{line.label}: {line.at:.4g}" if line.label else None
        return tag("line", x1=x.start, x2=x.stop, y1=y(line.at), y2=y(line.at), class_=style, data_tip=told)
    low, high = max(x.ends[0], y.ends[0]), min(x.ends[1], y.ends[1])
    return tag("line", x1=x(low), x2=x(high), y1=y(low), y2=y(high), class_=style)


def _curve(curve: Curve, x: Scale, y: Scale) -> list[Markup]:
    there = [point for point in curve.points if math.isfinite(point.y)]
    style = f"curve {curve.line} {hue_class(curve.hue)}{' faint' if curve.faint else ''}"
    drawn = []
    if curve.line != "none" and len(there) > 1:
        path = "M" + "L".join(f"{x(point.x):.1f} {y(point.y):.1f}" for point in there)
        drawn.append(tag("path", d=path, class_=style))
    drawn += [bar for point in there for bar in _bars(point, curve, x, y)]
    if curve.marks:
        drawn += [shape(curve.hue, x(point.x), y(point.y), _told(curve, point), curve.faint) for point in there]
    elif not curve.faint:
        drawn += [
            tag("circle", cx=x(point.x), cy=y(point.y), r=6, class_="area", data_tip=_told(curve, point))
            for point in there
        ]
    return drawn


def _told(curve: Curve, point: Point) -> str:
    return point.told if point.told.startswith(curve.label) else f"{curve.label}: {point.told or f'{point.y:.4g}'}"


def _bars(point: Point, curve: Curve, x: Scale, y: Scale) -> list[Markup]:
    drawn, style = [], f"bar {hue_class(curve.hue)}"
    if math.isfinite(point.low):
        place, low, high = x(point.x), y(min(point.low, point.y)), y(max(point.high, point.y))
        path = f"M{place - 3.5:.1f} {low:.1f}h7m-3.5 0V{high:.1f}m-3.5 0h7"
        drawn.append(tag("path", d=path, class_=style))
    if math.isfinite(point.left):
        place, left, right = y(point.y), x(min(point.left, point.x)), x(max(point.right, point.x))
        path = f"M{left:.1f} {place - 3.5:.1f}v7m0 -3.5H{right:.1f}m0 -3.5v7"
        drawn.append(tag("path", d=path, class_=style))
    return drawn
