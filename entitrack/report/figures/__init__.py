"""A result's figure as a file, and the blank page that every figure starts from."""

from __future__ import annotations

from pathlib import Path

from entitrack.core.result import Result


def draw(result: Result, folder: Path) -> Path | None:
    """Draw a result into `figure.png`; None for a method that has no figure."""
    figure = result.figure()
    if figure is None:
        return None
    path = folder / "figure.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path
