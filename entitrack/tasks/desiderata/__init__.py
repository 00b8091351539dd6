"""Desiderata: what a patched model should answer if the patched heads carry a given thing (paper, section 5)."""

from entitrack.tasks.desiderata.catalogue import DESIDERATA, EXTRA, PAPER, find_desiderata, find_desideratum
from entitrack.tasks.desiderata.drawing import draw_pairs
from entitrack.tasks.desiderata.pairs import Desideratum, DesideratumPair
from entitrack.tasks.desiderata.writing import aim

__all__ = [
    "DESIDERATA",
    "EXTRA",
    "PAPER",
    "Desideratum",
    "DesideratumPair",
    "aim",
    "draw_pairs",
    "find_desiderata",
    "find_desideratum",
]
