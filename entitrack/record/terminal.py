"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from entitrack.core.errors import printable
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.runtime.backends import Cost
from entitrack.runtime.peak_memory import peak_memory

_WIDTH = 120
_LONG = 40
"""Texts with more characters than this are wrapped."""
_UNBOUNDED = 10**6
_FRAME = 3
"""Characters between two columns."""


def show(result: Result) -> None:
    """Print a result's tables and notes to standard output."""
    for table in result.tables:
        show_table(table)
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH)
    for note in result.notes:
        console.print(Text(printable(f"  {note}"), style="dim"))


def show_table(table: Table) -> None:
    """Print a table whole: where the terminal is too narrow, in parts below each other; a pipe takes any width."""
    console = Console()
    width = console.width if console.is_terminal else max(_WIDTH, least_width(table))
    for part in parts(table, width):
        Console(width=max(width, least_width(part))).print(lay_out(part))


def parts(table: Table, width: int) -> list[Table]:
    """A table as one or more that are narrow enough: each has the first column, and some of the others.

    A column that is too wide by itself is a part that is too wide, and not cut.
    """
    columns = range(1, len(table.columns))
    together: list[list[int]] = [[]]
    for column in columns:
        if together[-1] and least_width(_only(table, [0, *together[-1], column])) > width:
            together.append([])
        together[-1].append(column)
    found = [_only(table, [0, *part]) for part in together]
    return [found[0], *(replace(part, title=f"{part.title}, continued") for part in found[1:])]


def _only(table: Table, columns: Sequence[int]) -> Table:
    """A table of some columns of another one."""
    rows = tuple(tuple(row[column] for column in columns) for row in table.rows)
    return Table(table.title, tuple(table.columns[column] for column in columns), rows)


def least_width(table: Table) -> int:
    """Characters that a table takes at least, its frame among them; long texts go on below."""
    names = (cell_len(printable(name)) for name in table.columns)
    cells = ([cell_len(render(row[column])) for row in table.rows] for column in range(len(table.columns)))
    widths = (
        max(name, min(max(column, default=0), _LONG if _is_long(table, number) else _UNBOUNDED))
        for number, (name, column) in enumerate(zip(names, cells, strict=True))
    )
    return sum(widths) + _FRAME * len(table.columns) + 1


def _is_long(table: Table, column: int) -> bool:
    """Whether a column has texts that are wrapped."""
    return any(isinstance(cell := row[column], str) and len(cell) > _LONG for row in table.rows)


def show_run(result: Result, cost: Cost, seconds: float, folder: Path) -> None:
    """Print a result, what it cost and where it is."""
    show(result)
    for line in (*cost_lines(cost, seconds), *memory_lines(peak_memory())):
        print(f"  {line}")
    print(f"  recorded in {folder}")


def show_study(table: Table, cost: str, folder: Path) -> None:
    """Print what came of the steps of a study, what they cost together, and where it is."""
    show_table(table)
    print(f"  {cost}")
    print(f"  recorded in {folder}")


def show_summary(tables: Sequence[Table], figure: Path | None, folder: Path, cost: str = "") -> None:
    """Print the tables of a sweep, what its jobs cost together, and where it is."""
    for table in tables:
        show_table(table)
    if cost:
        print(f"  {cost}")
    drawn = f", drawn in {figure.name}" if figure else ""
    print(f"  recorded in {folder}{drawn}")


def lay_out(table: Table) -> RichTable:
    """A table with its numbers to the right; columns of long texts are wrapped. No text is read as markup."""
    title = Text(printable(table.title), style="bold")
    laid = RichTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for index, name in enumerate(table.columns):
        long = _is_long(table, index)
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


def memory_lines(peak: Mapping[str, int]) -> list[str]:
    """How much memory this process has held at most; nothing where that is not known."""
    held = [f"{count / 2**30:.1f} GiB of {name}" for name, count in peak.items() if count]
    return [f"at most {' and '.join(held)}"] if held else []


def cost_lines(cost: Cost, seconds: float) -> list[str]:
    """What a run cost, in words: sessions, and where there was a server, jobs, bytes and seconds."""
    reused = f", {cost.reused} reused from the store" if cost.reused else ""
    lines = [f"{cost.units} sessions{reused}, {seconds:.1f} s"]
    moved = (
        f"up {cost.wire_up:,} bytes (tensors {cost.bytes_up:,}), down {cost.wire_down:,} (tensors {cost.bytes_down:,})"
    )
    if cost.simulated:
        lines += [f"a server would be sent {cost.simulated} jobs", moved]
        if cost.socket_messages:
            crossing = f"{cost.socket_messages:,} messages of {cost.socket_bytes:,} bytes"
            lines.append(f"through its sandbox's socket would go {crossing}")
        return lines
    if not cost.jobs and not cost.collected:
        return lines
    collected = f", {cost.collected} collected from an earlier run" if cost.collected else ""
    again = f", {cost.resubmitted} of them again" if cost.resubmitted else ""
    ran_out = f", {cost.out_of_memory} ran out of memory" if cost.out_of_memory else ""
    retried = f", {cost.retries} requests repeated" if cost.retries else ""
    lines.append(f"{cost.jobs} jobs submitted{again}{ran_out}{collected}{retried}")
    lines.append(moved)
    brought_up = [("waiting for models to be brought up", cost.deploying_s)] if cost.deploying_s else []
    waits = (("queued", cost.queued_s), *brought_up, ("running", cost.running_s), ("transferring", cost.transfer_s))
    lines.append("summed over jobs: " + ", ".join(f"{name} {value:.1f} s" for name, value in waits))
    if cost.gpu_bytes:
        took = f"{cost.gpu_bytes / 2**30:.2f} GiB of a GPU, {cost.gpu_percent:.0f} % of what its weights leave"
        lines.append(f"the largest job took {took}")
    return lines
