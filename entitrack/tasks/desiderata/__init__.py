"""Desiderata: what a patched model should answer if the patched heads carry a given thing (paper, section 5)."""

from entitrack.tasks.desiderata.catalogue import DESIDERATA, EXTRA, PAPER, find_desiderata, find_desideratum
from entitrack.tasks.desiderata.pairs import Desideratum, DesideratumPair
from entitrack.tasks.desiderata.writing import aim

__all__ = [
    "DESIDERATA",
    "EXTRA",
    "PAPER",
    "Desideratum",
    "DesideratumPair",
    "aim",
    "find_desiderata",
    "find_desideratum",
]
