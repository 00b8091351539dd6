"""The figure of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entitrack.core.result import Result


def draw(result: Any, folder: Path) -> Path | None:
    """Draw a result into `figure.png`; None for a method that has no figure."""
    figure = result.figure() if isinstance(result, Result) else None
    if figure is None:
        return None
    path = folder / "figure.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path
