"""Tables: what a result shows, the same whether it is printed, written, logged or put into a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entitrack.core.statistics.estimates import Estimate

if TYPE_CHECKING:
    import pandas

Cell = str | int | float | Estimate | None


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        title: What it shows.
        columns: Names of the columns.
        rows: Cells, row by row.

    Raises:
        ValueError: A row has not one cell for each column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        """Refuse rows that have not one cell for each column."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title!r}: {len(row)} cells for {len(self.columns)} columns: {row}")

    def frame(self) -> pandas.DataFrame:
        """As a data frame; an estimate has a column for its value and one for each end of its interval."""
        import pandas

        rows = [dict(self._flat(row)) for row in self.rows]
        return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=[_short(name) for name in self.columns])

    def _flat(self, row: tuple[Cell, ...]) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for name, cell in zip(self.columns, row, strict=True):
            short = _short(name)
            if isinstance(cell, Estimate):
                found += [(short, cell.value), (f"{short}, low", cell.low), (f"{short}, high", cell.high)]
            else:
                found.append((short, cell))
        return found

    def to_html(self) -> str:
        """As an HTML table, every text escaped."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(as_text(cell))}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _short(column: str) -> str:
    """A column's name without what is said of its cells."""
    return column.removesuffix(" [95 %]")


def as_text(cell: Cell) -> str:
    """A cell as a reader sees it."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)


def table_of(record: Mapping[str, Any]) -> Table:
    """The table of its plain values."""
    rows = tuple(tuple(Estimate(**cell) if isinstance(cell, dict) else cell for cell in row) for row in record["rows"])
    return Table(record["title"], tuple(record["columns"]), rows)
