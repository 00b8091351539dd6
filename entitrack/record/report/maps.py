"""Maps as SVG: a cell a value, which tells it; and the bar of their colours."""

from __future__ import annotations

import math

from entitrack.core.drawing import ColourScale, HeatMap
from entitrack.record.report.axes import Scale, worded
from entitrack.record.report.marks import colours
from entitrack.record.report.markup import Markup, tag

_CHARACTER = 6.9
"""Width of a character of a label."""
_MOST_NAMES = 16


def draw_map(panel: HeatMap, scale: ColourScale) -> tuple[list[Markup], float, float]:
    """A map's elements, width and height."""
    rows, columns = panel.rows.entries, panel.columns.entries
    across, up = _cell(panel)
    left = 26 + _CHARACTER * max(map(len, rows), default=0)
    top, width, height = 6.0, across * len(columns), up * len(rows)
    drawn = [tag("rect", x=left, y=top, width=width, height=height, class_="ground")]
    for row in range(len(rows)):
        for column in range(len(columns)):
            place = len(rows) - 1 - row if panel.upward else row
            x, y = left + across * column, top + up * place
            drawn += _drawn_cell(panel, scale, (row, column), (x, y, across, up))
    drawn.append(tag("rect", x=left, y=top, width=width, height=height, class_="frame"))
    drawn += _names(panel, left, top, (across, up))
    slanted = _CHARACTER * max(map(len, columns), default=0) if _is_slanted(columns, across) else 0
    beyond = max(8.0, 0.87 * slanted - across / 2 + 4)
    return drawn, left + width + beyond, top + height + 22 + 0.55 * slanted + 18 * bool(panel.columns.label)


def _cell(panel: HeatMap) -> tuple[float, float]:
    """Width and height of a cell."""
    if panel.texts:
        longest = max(len(line) for texts in panel.texts for text in texts for line in (text or " ").split("\n"))
        lines = max(text.count("\n") + 1 for texts in panel.texts for text in texts)
        return max(44.0, _CHARACTER * longest + 8), 12.0 + 13 * lines
    size = min(30.0, max(9.0, 320 / max(1, len(panel.columns.entries))))
    return (size if len(panel.columns.entries) > 1 else 90.0), min(30.0, size) if size < 30 else 26.0


def _drawn_cell(
    panel: HeatMap, scale: ColourScale, where: tuple[int, int], box: tuple[float, float, float, float]
) -> list[Markup]:
    (row, column), (x, y, width, height) = where, box
    value, told = panel.values[row][column], told_of(panel, row, column)
    if math.isnan(value):
        return [tag("rect", x=x, y=y, width=width, height=height, class_="absent cell", data_tip=told)]
    paper, dark, deep = colours(scale, value)
    style = f"--paper:{paper};--dark:{dark}"
    drawn = [tag("rect", x=x, y=y, width=width, height=height, class_="cell", style=style, data_tip=told)]
    if panel.texts:
        lines = panel.texts[row][column].split("\n")
        first = y + height / 2 - 6.5 * (len(lines) - 1) + 4
        drawn += [
            tag("text", line, x=x + width / 2, y=first + 13 * number, class_=f"value middle{' deep' * deep}")
            for number, line in enumerate(lines)
        ]
    if (row, column) in panel.ringed:
        radius = min(width, height) / 2 - 2
        drawn.append(tag("circle", cx=x + width / 2, cy=y + height / 2, r=radius, class_=f"ring{' deep' * deep}"))
    return drawn


def told_of(panel: HeatMap, row: int, column: int) -> str:
    """What a cell tells: where it is, its value, and what else is known."""
    names = [
        f"{names.label} {names.entries[place]}".strip()
        for names, place in ((panel.rows, row), (panel.columns, column))
        if names.entries[place]
    ]
    value = panel.values[row][column]
    said = "nothing measured" if math.isnan(value) else f"{value:.4g}"
    if panel.texts and panel.texts[row][column]:
        said = panel.texts[row][column].replace("\n", " ")
    more = [panel.told[row][column]] if panel.told and panel.told[row][column] else []
    ring = ["ringed"] if (row, column) in panel.ringed else []
    return f"{', '.join(names)}: {'; '.join([said, *more, *ring])}"


def _is_slanted(columns: tuple[str, ...], width: float) -> bool:
    return not all(name.isdigit() for name in columns) and max(map(len, columns), default=0) * _CHARACTER > width


def _names(panel: HeatMap, left: float, top: float, cell: tuple[float, float]) -> list[Markup]:
    rows, columns, (across, up) = panel.rows.entries, panel.columns.entries, cell
    bottom, drawn = top + up * len(rows), []
    for number, name in _shown(rows):
        place = len(rows) - 1 - number if panel.upward else number
        drawn.append(tag("text", name, x=left - 6, y=top + up * (place + 0.5) + 4, class_="tick end"))
    slanted = _is_slanted(columns, across)
    for number, name in _shown(columns):
        x, y = left + across * (number + 0.5), bottom + 15
        turned = {"transform": f"rotate(30 {x:.1f} {y:.1f})"} if slanted else {}
        drawn.append(tag("text", name, x=x, y=y, class_="tick" if slanted else "tick middle", **turned))
    lower = 0.55 * _CHARACTER * max(map(len, columns), default=0) if slanted else 0
    middle, centre = top + up * len(rows) / 2, left + across * len(columns) / 2
    drawn.append(tag("text", panel.columns.label, x=centre, y=bottom + 33 + lower, class_="label middle"))
    turn = f"rotate(-90 12 {middle:.1f})"
    drawn.append(tag("text", panel.rows.label, x=12.0, y=middle, class_="label middle", transform=turn))
    return drawn


def _shown(names: tuple[str, ...]) -> list[tuple[int, str]]:
    """Number and name of those that there is room for."""
    step = math.ceil(len(names) / _MOST_NAMES) if all(name.isdigit() for name in names) else 1
    return list(enumerate(names))[::step]


def draw_scale(scale: ColourScale) -> Markup:
    """What the colours stand for, as a bar from left to right."""
    ends = Scale((scale.low, scale.high), 8, 248)
    steps = [scale.low + (scale.high - scale.low) * (number + 0.5) / 48 for number in range(48)]
    bar = [
        tag(
            "rect",
            x=8 + 5.0 * number,
            y=2,
            width=5.4,
            height=10,
            class_="cell plain",
            style=f"--paper:{paper};--dark:{dark}",
        )
        for number, (paper, dark, _) in enumerate(colours(scale, value) for value in steps)
    ]
    ticks = [tag("text", worded(value), x=ends(value), y=26, class_="tick middle") for value in ends.ticks(5)]
    drawn = tag("svg", bar, ticks, viewBox="0 0 256 32", width=256, height=32, aria_hidden="true")
    return tag("div", drawn, tag("span", scale.label), class_="scale")
