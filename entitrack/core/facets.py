"""What prompts are told apart by, in the words of tables and figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FacetWords:
    """How a facet of prompts is shown.

    Attributes:
        column: Head of its column.
        axis: What a figure's axis says.
        entry: One of its values, with `{}` for the number.
        first: What 0 is shown as.
    """

    column: str
    axis: str
    entry: str
    first: int = 0

    def shown(self, value: int) -> str:
        """A value as a row is called."""
        return self.entry.format(value + self.first)
