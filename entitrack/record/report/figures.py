"""A drawing in a page: each panel a picture of its own, so that they flow; a legend, a bar of colours, a caption."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.drawing import RANDOM, Drawing, HeatMap, Panel, Rows, legend, spans
from entitrack.record.report.maps import draw_map, draw_scale
from entitrack.record.report.marks import hue_class, shape
from entitrack.record.report.markup import Markup, tag
from entitrack.record.report.plots import draw_plot
from entitrack.record.report.rows import draw_rows

ASK = "Arrow keys go through its values."


def draw_figure(drawing: Drawing, caption: str) -> Markup:
    """A figure with its panels."""
    ends = spans(drawing)
    panels = []
    for number, panel in enumerate(drawing.panels, 1):
        if isinstance(panel, HeatMap):
            assert drawing.scale is not None, "a map has a scale"
            drawn, width, height = draw_map(panel, drawing.scale)
        else:
            drawn, width, height = draw_rows(panel, ends) if isinstance(panel, Rows) else draw_plot(panel, ends)
        panels.append(_panel(panel, picture(drawn, width, height, _label(drawing, panel, number))))
    parts = [tag("h3", drawing.title), tag("div", panels, class_="panels")]
    if drawing.scale is not None:
        parts.append(draw_scale(drawing.scale))
    entries = legend(drawing)
    if entries:
        parts.append(tag("ul", (_entry(*entry) for entry in entries), class_="legend"))
    return tag("figure", parts, tag("figcaption", caption), class_="whole")


def picture(drawn: Sequence[Markup], width: float, height: float, label: str) -> Markup:
    """Elements as a picture that has a name and can be asked by keys."""
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}", "viewBox": f"0 0 {width:.0f} {height:.0f}"}
    drawn_svg = tag("svg", drawn, role="img", aria_label=f"{label}. {ASK}", tabindex="0", **size)
    return tag("div", drawn_svg, class_="scroll" if width > 1150 else None)


def _panel(panel: Panel, drawn: Markup) -> Markup:
    return tag("div", *([tag("h4", panel.title)] if panel.title else []), drawn, class_="panel")


def _label(drawing: Drawing, panel: Panel, number: int) -> str:
    return f"{drawing.title}, {panel.title.replace(chr(10), ' ') or f'panel {number}'}"


def _entry(kind: str, hue: str, label: str) -> Markup:
    """What stands in a legend for something of a hue."""
    style = hue_class(hue)
    drawn = {
        "line": [tag("line", x1=1, x2=27, y1=7, y2=7, class_=f"reference {style}")],
        "stroke": [tag("line", x1=1, x2=27, y1=7, y2=7, class_=f"curve {style}")],
        "curve": [tag("line", x1=1, x2=27, y1=7, y2=7, class_=f"curve {style}"), shape(hue, 14, 7)],
        "dotted": [tag("line", x1=1, x2=27, y1=7, y2=7, class_=f"curve dotted {style}"), shape(hue, 14, 7)],
        "mark": [shape(hue, 14, 7)],
        "band": [tag("rect", x=2, y=1, width=24, height=12, class_=f"band {style}")],
        "draws": [tag("path", d="M8 1v12M13 1v12M15 1v12M20 1v12", class_=f"draws {hue_class(RANDOM)}")],
    }[kind]
    return tag(
        "li", tag("svg", drawn, viewBox="0 0 28 14", width=28, height=14, aria_hidden="true"), tag("span", label)
    )
