"""Which numbers a setting takes: said where it is declared, checked when settings are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any, ClassVar

from entitrack.core.errors import UserError, shown

_LIMITS = "limits"


@dataclass(frozen=True)
class Limits:
    """An interval of numbers.

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
        """Whether a number is in the interval."""
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """In words: `0 or more and 1 or less`."""
        low = f"above {self.above:g}" if self.above > -inf else f"{self.least:g} or more"
        high = f"below {self.below:g}" if self.below < inf else f"{self.most:g} or less"
        bounded = (max(self.above, self.least) > -inf, min(self.below, self.most) < inf)
        return " and ".join(part for part, bound in zip((low, high), bounded, strict=True) if bound)


def limits(**interval: float) -> dict[str, Limits]:
    """What a field of a settings class has as metadata if its numbers are in `Limits(**interval)`."""
    return {_LIMITS: Limits(**interval)}


def limited(default: float | None, **interval: float) -> Any:
    """A field of a settings class with a default, whose number is in `Limits(**interval)`; None passes."""
    return field(default=default, metadata=limits(**interval))


class Checked:
    """Base of settings classes: numbers are checked when an object is made, in Python or from configuration.

    Attributes:
        place: Key of the configuration that such an object is the value of; empty for the whole of it.
    """

    place: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Refuse numbers that are not allowed, however deep they are.

        Raises:
            UserError: Naming the key and what it takes.
        """
        _check(self, self.place)


def _check(settings: Any, place: str) -> None:
    for entry in fields(settings):
        value, key = getattr(settings, entry.name), f"{place}.{entry.name}".lstrip(".")
        several = isinstance(value, Sequence) and not isinstance(value, str)
        for index, part in enumerate(value if several else [value]):
            where = f"{key}.{index}" if several else key
            if is_dataclass(part):
                _check(part, where)
            interval = entry.metadata.get(_LIMITS)
            if interval is None or not isinstance(part, Real):
                continue
            if not _is_finite(part):
                raise UserError(where, f"{part} is not a finite number")
            if not interval.allow(part):
                number = shown(int(part)) if isinstance(part, Integral) else str(part)
                raise UserError(where, f"{number} is not {interval}")


def _is_finite(number: Any) -> bool:
    """Whether a number is finite; whole numbers are, however large."""
    return isinstance(number, Integral) or isfinite(number)
