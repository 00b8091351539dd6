"""A result's figure as an image, and the blank page that every figure starts from."""

from __future__ import annotations

import io

from matplotlib import rc_context

from entitrack.core.result import Result


def draw(result: Result) -> bytes | None:
    """A result's figure as PNG; None for a method that has no figure.

    No text is read as mathematics: `$` in a name is a dollar.
    """
    with rc_context({"text.parse_math": False}):
        figure = result.figure()
        if figure is None:
            return None
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, bbox_inches="tight")
    return stream.getvalue()
