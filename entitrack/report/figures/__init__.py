"""One figure a method, each in a file of its own."""

from __future__ import annotations

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
    "evaluate",
    "faithfulness",
    "minimality",
    "path_patching",
    "plot",
    "positions",
]
