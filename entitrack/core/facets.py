"""What prompts are told apart by, in the words of tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FacetWords:
    """How a facet of prompts is shown.

    Attributes:
        column: Head of its column.
        axis: What a figure's axis says.
        entry: One of its values, with `{}` for the number.
        first: What 0 is shown as.
        names: What its values 0, 1, ... are called, where they are no numbers.
    """

    column: str
    axis: str
    entry: str
    first: int = 0
    names: Sequence[str] = ()

    def shown(self, value: int) -> str:
        """A value as a row is called."""
        return self.names[value] if self.names else self.entry.format(value + self.first)
