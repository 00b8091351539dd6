"""One figure a method, each in a file of its own."""

from __future__ import annotations

import io
from typing import Any

from matplotlib import rc_context

from entitrack.report.figures import (
    activation_patching,
    attention_knockout,
    attribution,
    cmap,
    completeness,
    dcm,
    evaluate,
    faithfulness,
    minimality,
    path_patching,
    positions,
)
from entitrack.report.figures.canvas import plot

__all__ = [
    "activation_patching",
    "attention_knockout",
    "attribution",
    "cmap",
    "completeness",
    "dcm",
    "draw",
    "evaluate",
    "faithfulness",
    "minimality",
    "path_patching",
    "plot",
    "positions",
]


def draw(result: Any) -> bytes | None:
    """A result's figure as PNG; None for a method that has no figure.

    No text is read as mathematics: `$` in a name is a dollar.
    """
    with rc_context({"text.parse_math": False}):
        figure = plot(result)
        if figure is None:
            return None
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")
    return stream.getvalue()
