"""Figures as data: what is drawn of a result, before anybody says how.

1. A view gives a `Drawing`: panels of three kinds (`HeatMap`, `Rows`, `Plot`), and what a reader must know of them.
2. `record.figures` makes an image of it, for a paper; `record.report` a picture in a page.
3. Colours are named by what they stand for, so that they mean the same in all figures, and panels of a drawing that
   show the same quantity share its scale.
"""

from entitrack.core.drawing.hues import BASE, LEFT_OUT, RANDOM, TESTED, member_hues, other_hue
from entitrack.core.drawing.panels import (
    Band,
    ColourScale,
    Curve,
    Drawing,
    HeatMap,
    Line,
    Mark,
    Names,
    Panel,
    Plot,
    Point,
    Row,
    Rows,
    Span,
    in_cell,
    nested,
    point,
    sizes_of,
    spoken,
)
from entitrack.core.drawing.scales import even_scale, legend, spans

__all__ = [
    "BASE",
    "LEFT_OUT",
    "RANDOM",
    "TESTED",
    "Band",
    "ColourScale",
    "Curve",
    "Drawing",
    "HeatMap",
    "Line",
    "Mark",
    "Names",
    "Panel",
    "Plot",
    "Point",
    "Row",
    "Rows",
    "Span",
    "even_scale",
    "in_cell",
    "legend",
    "member_hues",
    "nested",
    "other_hue",
    "point",
    "sizes_of",
    "spans",
    "spoken",
]
