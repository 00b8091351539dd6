"""Which numbers a setting takes: said where it is declared, checked where the configuration is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from math import inf
from typing import Any

from entitrack.errors import UserError

_LIMITS = "limits"


@dataclass(frozen=True)
class Limits:
    """An interval of numbers; NaN is in none.

    Attributes:
        least: The least number that is allowed.
        above: Every number that is allowed is above it.
        most: The largest number that is allowed.
        below: Every number that is allowed is below it.
    """

    least: float = -inf
    above: float = -inf
    most: float = inf
    below: float = inf

    def allow(self, value: float) -> bool:
        """Whether a number is in the interval; no infinite one is."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """In words: `0 or more and 1 or less`."""
        low = f"above {self.above:g}" if self.above > -inf else f"{self.least:g} or more" if self.least > -inf else ""
        high = f"below {self.below:g}" if self.below < inf else f"{self.most:g} or less" if self.most < inf else ""
        return " and ".join(part for part in (low, high) if part) or "a finite number"


def limits(**interval: float) -> dict[str, Limits]:
    """What a field of a settings class has as metadata if its numbers are in `Limits(**interval)`."""
    return {_LIMITS: Limits(**interval)}


def limited(default: float | None, **interval: float) -> Any:
    """A field of a settings class with a default, whose number is in `Limits(**interval)`; None passes."""
    return field(default=default, metadata=limits(**interval))


def check_limits(settings: Any, place: str) -> None:
    """Refuse settings with a number that its field does not take, however deep it is.

    Args:
        settings: An object of a settings class.
        place: Key of the configuration that it is the value of.

    Raises:
        UserError: Naming the key and what it takes.
    """
    for entry in fields(settings):
        value, key = getattr(settings, entry.name), f"{place}.{entry.name}".lstrip(".")
        several = isinstance(value, Sequence) and not isinstance(value, str)
        for index, part in enumerate(value if several else [value]):
            where = f"{key}.{index}" if several else key
            if is_dataclass(part):
                check_limits(part, where)
            interval = entry.metadata.get(_LIMITS)
            if interval and isinstance(part, (int, float)) and not interval.allow(part):
                raise UserError(where, f"{part:g} is not {interval}")
