"""The paper's desiderata: what a patched model should answer if the patched heads carry a given thing (section 5)."""

from entitrack.tasks.boxes.desiderata.structure import (
    AddedComma,
    AlteredAssociation,
    AlteredOrder,
    BoxesBeforeSegment,
    NeighbouringSegment,
    NoComma,
    RandomTextEnd,
    RandomTextStart,
    SegmentEnd,
    SegmentStart,
    TokensBetweenBoxAndObject,
)
from entitrack.tasks.boxes.desiderata.variables import BoxLabelValue, ObjectValue, Positional
from entitrack.tasks.protocol import Desideratum

PAPER: tuple[Desideratum, ...] = (ObjectValue(), BoxLabelValue(), Positional())
EXTRA: tuple[Desideratum, ...] = (
    RandomTextStart(),
    RandomTextEnd(),
    TokensBetweenBoxAndObject(),
    SegmentStart(),
    SegmentEnd(),
    BoxesBeforeSegment(),
    NeighbouringSegment(),
    AlteredOrder(),
    AlteredAssociation(),
    NoComma(),
    AddedComma(),
)
DESIDERATA: dict[str, Desideratum] = {rule.name: rule for rule in (*PAPER, *EXTRA)}
