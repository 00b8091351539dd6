"""A result's figure: drawn with matplotlib, and as the bytes of a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib import rc_context

from entitrack.core.result import Result
from entitrack.record.figures.captions import caption
from entitrack.record.figures.page import RC, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
"""Of files; the last two are of lines and letters, for print."""


def figure(result: Result) -> Figure | None:
    """A result's figure, with its caption; None for a method that has none."""
    drawing = result.drawing()
    return None if drawing is None else draw(drawing, caption(result, drawing))


def image(result: Result, kind: str = "png") -> bytes | None:
    """A result's figure as a file of a format of `FORMATS`, the same bytes whenever it is drawn; None without one."""
    drawn = figure(result)
    if drawn is None:
        return None
    stream = io.BytesIO()
    undated = {"png": None, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with rc_context(RC):
        drawn.savefig(stream, format=kind, dpi=200, metadata=undated)
    return stream.getvalue()
