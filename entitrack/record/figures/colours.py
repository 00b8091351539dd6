"""What hues look like: Okabe and Ito's colours, told apart however one sees colours, and a shape each.

One hue has one look in all figures; a look is a colour on paper, one on a dark page, and a shape, so that a print
without colours can be read. Of more donors or other things than there are colours, the next have the same colours and
other shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from entitrack.core.drawing import BASE, LEFT_OUT, RANDOM, TESTED

SHAPES = ("circle", "square", "triangle", "diamond", "down", "cross", "plus", "star")
"""Of marks, in the order in which things that share a kind of hue take them."""
_DONORS = (("#D55E00", "#FF8A3D"), ("#009E73", "#2FCB9E"), ("#CC79A7", "#E59AC4"))
_OTHERS = (("#0072B2", "#5CB3EA"), ("#56B4E9", "#9AD7FA"), ("#000000", "#F0F0F0"))


@dataclass(frozen=True)
class Look:
    """How a hue is drawn.

    Attributes:
        paper: Colour on white.
        dark: Colour on a dark page.
        shape: Of its marks; one of `SHAPES`.
    """

    paper: str
    dark: str
    shape: str


_FIXED = {
    BASE: Look("#444444", "#C4C4C4", "square"),
    TESTED: Look("#0072B2", "#5CB3EA", "circle"),
    RANDOM: Look("#E69F00", "#F2B93D", "diamond"),
    LEFT_OUT: Look("#9A9A9A", "#8A8A8A", "circle"),
}


def look(hue: str) -> Look:
    """How a hue is drawn; see `core.drawing.hues`.

    Raises:
        KeyError: There is no such hue.
    """
    if hue in _FIXED:
        return _FIXED[hue]
    kind, number = hue.rsplit(" ", 1)
    colours = {"donor": _DONORS, "other": _OTHERS}[kind]
    first = 2 if kind == "donor" else 0
    return Look(*colours[int(number) % len(colours)], SHAPES[(int(number) + first) % len(SHAPES)])


RED, WHITE, BLUE = (0xB2, 0x18, 0x2B), (0xFF, 0xFF, 0xFF), (0x21, 0x66, 0xAC)
"""Of maps about 0: red where the answer suffers, blue where it gains."""
DEEP = (0x08, 0x45, 0x94)
"""Of maps of shares: all of it; nothing is white."""
