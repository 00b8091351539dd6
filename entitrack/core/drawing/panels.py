"""Drawings, their panels, and what is in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from entitrack.core.drawing.hues import LEFT_OUT
from entitrack.core.measurement import PromptSet
from entitrack.core.statistics.estimates import Estimate

Span = tuple[float, float]


@dataclass(frozen=True)
class Names:
    """An axis of names.

    Attributes:
        label: What they are.
        entries: The names in order.
    """

    label: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class ColourScale:
    """What the colours of maps stand for; one for all maps of a drawing.

    Attributes:
        label: The quantity, with its unit.
        low: Its least value.
        high: Its greatest value.
        worse: The end at which the answer suffers; it is red, and 0 is white. None: from nothing (white) to all.
        root: Whether colours go with the square root of the size, so that small values are seen beside a large one.
    """

    label: str
    low: float
    high: float
    worse: Literal["low", "high"] | None = None
    root: bool = False

    def depth(self, value: float) -> float:
        """How deep the colour of a value is: 0 is white, 1 the deepest; below 0 for values below 0."""
        share = value / max(abs(self.low), abs(self.high))
        return math.copysign(math.sqrt(abs(share)), share) if self.root else share


@dataclass(frozen=True)
class HeatMap:
    """Colours by row and column.

    Attributes:
        title: Of the panel.
        rows: Names of the rows.
        columns: Names of the columns.
        values: Row by row; not a number where there is none.
        texts: What stands in each cell, row by row; empty for no texts.
        told: What else is known of each cell, row by row, where a reader can ask for it.
        ringed: Row and column of the cells that were chosen.
        upward: Whether the first row is the lowest.
    """

    title: str
    rows: Names
    columns: Names
    values: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[str, ...], ...] = ()
    told: tuple[tuple[str, ...], ...] = ()
    ringed: tuple[tuple[int, int], ...] = ()
    upward: bool = False


@dataclass(frozen=True)
class Mark:
    """A value in a row, with its interval where it is an estimate.

    Attributes:
        value: The value.
        hue: What it is of.
        label: The same in words, for the legend.
    """

    value: Estimate | float
    hue: str
    label: str = ""


@dataclass(frozen=True)
class Row:
    """Values that belong to one name.

    Attributes:
        name: The name.
        marks: Its values, one above the other.
        draws: Values of random controls, as many as there are.
        text: What stands at the end of the row.
    """

    name: str
    marks: tuple[Mark, ...]
    draws: tuple[float, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Line:
    """A line for comparison.

    Attributes:
        at: Where it is; the diagonal is at 0.
        direction: `up`, `across`, or `diagonal`.
        hue: What it is of.
        label: The same in words, for the legend.
    """

    at: float
    direction: Literal["up", "across", "diagonal"]
    hue: str = LEFT_OUT
    label: str = ""


@dataclass(frozen=True)
class Rows:
    """Values from left to right, a row a name, the first one on top.

    Attributes:
        title: Of the panel.
        axis: What the values are, with their unit.
        names: What the rows are.
        rows: The rows.
        lines: Lines for comparison.
        limits: Ends of the axis; None takes all that is drawn, here and in panels of the same axis.
        draws: What random controls are called in the legend.
    """

    title: str
    axis: str
    names: str
    rows: tuple[Row, ...]
    lines: tuple[Line, ...] = ()
    limits: Span | None = None
    draws: str = "random heads"


@dataclass(frozen=True)
class Point:
    """A point with its intervals; an end that is not a number draws no bar.

    Attributes:
        x: From left to right.
        y: From below.
        low: Lower end of y.
        high: Upper end of y.
        left: Lower end of x.
        right: Upper end of x.
        told: What it is, where a reader can ask for it.
    """

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    left: float = math.nan
    right: float = math.nan
    told: str = ""


def point(x: float | Estimate, y: float | Estimate, told: str = "") -> Point:
    """A point of numbers or estimates."""
    across, up = (value if isinstance(value, Estimate) else None for value in (x, y))
    return Point(
        across.value if across else float(x),  # type: ignore[arg-type]
        up.value if up else float(y),  # type: ignore[arg-type]
        *((up.low, up.high) if up else (math.nan, math.nan)),
        *((across.low, across.high) if across else (math.nan, math.nan)),
        told,
    )


@dataclass(frozen=True)
class Curve:
    """Points that belong together.

    Attributes:
        label: What they are, for the legend; empty for what another curve names already.
        hue: The same as a colour.
        points: The points.
        line: How they are joined.
        marks: Whether the points are drawn themselves.
        faint: Whether it is in the background.
    """

    label: str
    hue: str
    points: tuple[Point, ...]
    line: Literal["solid", "dotted", "none"] = "solid"
    marks: bool = True
    faint: bool = False


@dataclass(frozen=True)
class Band:
    """What lies between two curves, as quantiles of random controls.

    Attributes:
        label: What it is, for the legend.
        hue: The same as a colour.
        x: From left to right.
        low: Lower edge.
        high: Upper edge.
    """

    label: str
    hue: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Curves and points over two axes.

    Attributes:
        title: Of the panel.
        x: What is from left to right, with its unit.
        y: What is upward, with its unit.
        curves: Curves and points.
        bands: What is behind them.
        lines: Lines for comparison.
        x_names: Names of the places 0, 1, 2, ... from left to right; empty where these are numbers.
        x_limits: Ends of the axis; None takes all that is drawn, here and in panels of the same axis.
        y_limits: The same of the upright axis.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    bands: tuple[Band, ...] = ()
    lines: tuple[Line, ...] = ()
    x_names: tuple[str, ...] = ()
    x_limits: Span | None = None
    y_limits: Span | None = None


Panel = HeatMap | Rows | Plot


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        title: What it shows, and of which models.
        panels: Its panels, in reading order.
        scale: What the colours of its maps stand for.
        notes: What a reader must know to read it: what rings, hatched cells and missing panels are.
        sizes: Number of prompts, and of their contexts, that it is about; None where it is about none.
    """

    title: str
    panels: tuple[Panel, ...]
    scale: ColourScale | None = None
    notes: tuple[str, ...] = ()
    sizes: tuple[int, int] | None = None


def sizes_of(prompts: PromptSet | None) -> tuple[int, int] | None:
    """Number of prompts and of contexts."""
    return None if prompts is None else (len(prompts), len(prompts.clusters.unique()))


def nested(values: Any) -> tuple[tuple[float, ...], ...]:
    """A matrix as rows of numbers."""
    return tuple(tuple(float(value) for value in row) for row in values.tolist())


def spoken(name: str) -> str:
    """A name as a figure writes it."""
    return name.replace("_", " ")


def in_cell(value: Estimate) -> str:
    """An estimate in the cell of a map: the value, and under it both ends of its interval."""
    ends = "" if value.without else f"\n[{_digits(value.low)}, {_digits(value.high)}]"
    return f"{_digits(value.value)}{ends}"


def _digits(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"
