"""Tables on the terminal."""

from __future__ import annotations

from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from entitrack.core.errors import printable
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.runtime.backends import Cost

_WIDTH = 120
_LONG = 40
"""Texts with more characters than this are wrapped."""


def show(result: Result) -> None:
    """Print a result's tables and notes to standard output."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for table in result.tables:
        console.print(lay_out(table))
    for note in result.notes:
        console.print(Text(printable(f"  {note}"), style="dim"))


def lay_out(table: Table) -> RichTable:
    """A table with its numbers to the right; columns of long texts are wrapped. No text is read as markup."""
    title = Text(printable(table.title), style="bold")
    laid = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(table.columns):
        long = any(isinstance(cell := row[index], str) and len(cell) > _LONG for row in table.rows)
        justify: Literal["left", "right"] = "left" if index == 0 or long else "right"
        laid.add_column(Text(printable(name)), justify=justify, no_wrap=not long, ratio=1 if long else None)
    for row in table.rows:
        laid.add_row(*(Text(render(cell)) for cell in row))
    return laid


def render(cell: Cell) -> str:
    """A cell as text."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.4f}"
    return printable(str(cell))


def cost_lines(cost: Cost, seconds: float) -> list[str]:
    """What a run cost, in words: sessions, and where there was a server, jobs, bytes and seconds."""
    reused = f", {cost.reused} reused from the store" if cost.reused else ""
    lines = [f"{cost.units} sessions{reused}, {seconds:.1f} s"]
    if not cost.jobs and not cost.collected:
        return lines
    collected = f", {cost.collected} collected from an earlier run" if cost.collected else ""
    retried = f", {cost.retries} requests repeated" if cost.retries else ""
    lines.append(f"{cost.jobs} jobs submitted{collected}{retried}")
    lines.append(
        f"up {cost.wire_up:,} bytes (tensors {cost.bytes_up:,}), down {cost.wire_down:,} (tensors {cost.bytes_down:,})"
    )
    waits = (("queued", cost.queued_s), ("running", cost.running_s), ("transferring", cost.transfer_s))
    lines.append("summed over jobs: " + ", ".join(f"{name} {value:.1f} s" for name, value in waits))
    return lines
