"""One figure a method, each in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entitrack.core.result import Result
from entitrack.report.figures import (
)
from entitrack.report.figures.canvas import plot

__all__ = [
    "plot",
]


def draw(result: Any, folder: Path) -> Path | None:
    """Draw a result into `figure.png`; None for a method that has no figure."""
    figure = result.figure() if isinstance(result, Result) else plot(result)
    if figure is None:
        return None
    path = folder / "figure.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path
