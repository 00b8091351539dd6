"""Axes of numbers: where a value is, and ticks at round numbers."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

from entitrack.core.drawing import Span
from entitrack.record.report.markup import Markup, tag


@dataclass(frozen=True)
class Scale:
    """From values to places.

    Attributes:
        ends: Least and greatest value.
        start: Place of the least.
        stop: Place of the greatest.
    """

    ends: Span
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The place of a value; of one beyond the ends, the end."""
        low, high = self.ends
        share = (min(max(value, low), high) - low) / (high - low or 1)
        return self.start + share * (self.stop - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the ends, at most about so many."""
        low, high = self.ends
        rough = (high - low) / max(1, most - 1) or 1
        magnitude = 10 ** math.floor(math.log10(rough))
        step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough * 0.999)
        first = math.ceil(low / step - 1e-9)
        return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def worded(value: float) -> str:
    """A tick as text."""
    return f"{value:g}".replace("-", "\u2212")


def below(scale: Scale, height: float, label: str, most: int = 6) -> list[Markup]:
    """An axis under a panel, with its name."""
    middle = (scale.start + scale.stop) / 2
    return [
        tag("line", x1=scale.start, x2=scale.stop, y1=height, y2=height, class_="axis"),
        *(
            tag("g",
                tag("line", x1=scale(value), x2=scale(value), y1=height, y2=height + 4, class_="axis"),
                tag("text", worded(value), x=scale(value), y=height + 16, class_="tick middle"))
            for value in scale.ticks(most)
        ),
        *(
            tag("text", line, x=middle, y=height + 34 + 14 * number, class_="label middle")
            for number, line in enumerate(lines_of(scale, label))
        ),
    ]  # fmt: skip


def lines_of(scale: Scale, label: str) -> list[str]:
    """The name of an axis in lines that are no longer than it."""
    return textwrap.wrap(label, max(16, int((scale.stop - scale.start) / 6.4))) or [""]


def beside(scale: Scale, left: float, right: float, label: str) -> list[Markup]:
    """An axis at the left of a panel, lines across it, and its name."""
    middle = (scale.start + scale.stop) / 2
    return [
        *(
            tag("g",
                tag("line", x1=left, x2=right, y1=scale(value), y2=scale(value), class_="grid"),
                tag("text", worded(value), x=left - 6, y=scale(value) + 4, class_="tick end"))
            for value in scale.ticks()
        ),
        tag("line", x1=left, x2=left, y1=scale.start, y2=scale.stop, class_="axis"),
        tag("text", label, x=12.0, y=middle, class_="label middle", transform=f"rotate(-90 12 {middle:.1f})"),
    ]  # fmt: skip
