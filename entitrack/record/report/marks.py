"""Marks of hues: shapes with a colour for paper and one for a dark page, and what is told of them on demand."""

from __future__ import annotations

from entitrack.core.drawing import ColourScale
from entitrack.record.figures.colours import BLUE, DEEP, RED, WHITE, look
from entitrack.record.report.markup import Markup, tag

NIGHT = (0x1B, 0x20, 0x27)
"""What 0 is on a dark page."""
_STAR = "0,-5.4 1.6,-1.8 5.4,-1.6 2.4,0.9 3.4,4.7 0,2.6 -3.4,4.7 -2.4,0.9 -5.4,-1.6 -1.6,-1.8"
_POLYGONS = {
    "square": "-4,-4 4,-4 4,4 -4,4", "triangle": "0,-5 4.6,3.6 -4.6,3.6", "down": "0,5 4.6,-3.6 -4.6,-3.6",
    "diamond": "0,-5 5,0 0,5 -5,0", "star": _STAR,
    "cross": "-4,-2 -2,-4 0,-2 2,-4 4,-2 2,0 4,2 2,4 0,2 -2,4 -4,2 -2,0",
    "plus": "-1.6,-5 1.6,-5 1.6,-1.6 5,-1.6 5,1.6 1.6,1.6 1.6,5 -1.6,5 -1.6,1.6 -5,1.6 -5,-1.6 -1.6,-1.6",
}  # fmt: skip


def hue_class(hue: str) -> str:
    """The class of what has a hue."""
    return f"hue-{hue.replace(' ', '-')}"


def hue_rules(hues: set[str]) -> tuple[str, str]:
    """Rules of style for hues, on paper and on a dark page."""
    ordered = sorted(hues)
    light = "".join(f".{hue_class(hue)}{{--hue:{look(hue).paper}}}" for hue in ordered)
    dark = "".join(f".{hue_class(hue)}{{--hue:{look(hue).dark}}}" for hue in ordered)
    return light, dark


def shape(hue: str, x: float, y: float, told: str = "", faint: bool = False) -> Markup:
    """A mark of a hue; `told` is what a reader may ask for."""
    name, where = look(hue).shape, f"translate({x:.2f} {y:.2f})"
    style = f"mark {hue_class(hue)}{' faint' if faint else ''}"
    asked = {"data_tip": told or None}
    if name == "circle":
        return tag("circle", r=4.3, transform=where, class_=style, **asked)
    return tag("polygon", points=_POLYGONS[name], transform=where, class_=style, **asked)


def colours(scale: ColourScale, value: float) -> tuple[str, str, bool]:
    """Colour of a value on paper and on a dark page, and whether it is deep."""
    depth = scale.depth(value)
    ends = {"low": (RED, BLUE), "high": (BLUE, RED), None: (DEEP, DEEP)}[scale.worse]
    deep = ends[depth > 0]
    bright = tuple(min(255, part + 60) for part in deep)
    return _mixed(WHITE, deep, abs(depth)), _mixed(NIGHT, bright, abs(depth)), abs(depth) > 0.55


def _mixed(first: tuple[int, ...], second: tuple[int, ...], share: float) -> str:
    share = min(max(share, 0), 1)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(first, second, strict=True))
