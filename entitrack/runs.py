"""Finished runs: `python -m entitrack.runs list|compare|newest`.

1. `list` has a line for every run below a folder: method, models, prompts, date, and its main number.
2. `compare` says of two runs which settings differ, and which numbers by more than their intervals.
3. `newest` prints the folder of the newest run of a kind, for a command to take.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from entitrack.core.comparison import compare
from entitrack.core.errors import UserError, quoted
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods import method_names
from entitrack.record.loading import load
from entitrack.record.report.reading import Run, read_runs
from entitrack.record.terminal import lay_out

USAGE = "python -m entitrack.runs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; gives the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        {"list": _list, "compare": _compare, "newest": _newest}[asked.action](asked)
    except UserError as error:
        print(f"entitrack.runs: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=USAGE, description="Finished runs: which there are, and how two differ.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|compare|newest")
    listed = actions.add_parser("list", help="a line a run", description="A line for every run below a folder.")
    kind = "folder of the newest run of a kind"
    newest = actions.add_parser("newest", help=kind, description=kind)
    for action in (listed, newest):
        action.add_argument("--folder", type=Path, default=Path("outputs"), help="where runs are (default: outputs)")
        action.add_argument("--family", default="", help="only of this family")
        action.add_argument("--donor", default="", help="only of this donor")
    listed.add_argument("--method", choices=method_names(), default="", help="only of this method")
    newest.add_argument("method", choices=method_names(), help="of this method")
    both = actions.add_parser("compare", help="how two differ", description="Settings and numbers that differ.")
    both.add_argument("first", type=Path)
    both.add_argument("second", type=Path)
    return parser


def _chosen(asked: argparse.Namespace) -> list[Run]:
    """The runs that are meant, the newest first."""
    found = [
        run
        for run in read_runs([asked.folder])
        if asked.method in ("", run.result.method)
        and asked.family in ("", _config(run).get("model", {}).get("name"))
        and asked.donor in ("", run.result.facts.get("donor"))
    ]
    return sorted(found, key=lambda run: str(run.result.provenance.get("date", "")), reverse=True)


def _config(run: Run) -> dict[str, Any]:
    config: dict[str, Any] = run.result.provenance.get("config", {})
    return config


def _list(asked: argparse.Namespace) -> None:
    runs = _chosen(asked)
    rows = tuple((run.result.method, run.about, run.result.headline, _when(run), str(run.folder)) for run in runs)
    _print(Table(f"{asked.folder}: {len(runs)} runs", ("method", "of", "what it says", "date", "folder"), rows))


def _when(run: Run) -> str:
    return str(run.result.provenance.get("date", ""))[:16].replace("T", " ")


def _newest(asked: argparse.Namespace) -> None:
    runs = _chosen(asked)
    if not runs:
        raise UserError("method", f"no finished run of {quoted(asked.method)} in {asked.folder}", fix="run it first")
    print(runs[0].folder)


def _compare(asked: argparse.Namespace) -> None:
    first, second = load(asked.first), load(asked.second)
    compared = compare(first, second)
    _print(compared.settings)
    columns = ("table", "row", "column", "first", "second")
    title = "Numbers that differ by more than their intervals: these do not overlap"
    _print(Table(title, columns, tuple(far_apart(first, second))))
    if compared.changes.rows:
        _print(compared.changes)


def far_apart(first: Result, second: Result) -> Iterator[tuple[Cell, ...]]:
    """Cells of tables that both results have whose intervals do not overlap.

    Tables are matched by their place, rows by their texts, columns by their names.
    """
    for one, other in zip(first.tables, second.tables, strict=False):
        beside = dict(_estimates(other))
        for where, cell in _estimates(one):
            if where in beside and _are_apart(cell, beside[where]):
                yield (one.title.split(";")[0], *where, str(cell), str(beside[where]))


def _estimates(table: Table) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """Row and column of every estimate, and the estimate."""
    for row in table.rows:
        for name, cell in zip(table.columns, row, strict=True):
            if isinstance(cell, Estimate):
                yield (_row_name(row), name.removesuffix(" [95 %]")), cell


def _row_name(row: Sequence[Cell]) -> str:
    """The texts that a row begins with."""
    words: list[str] = []
    for cell in row:
        if not isinstance(cell, str):
            break
        words.append(cell)
    return " ".join(words)


def _are_apart(one: Estimate, other: Estimate) -> bool:
    return one.high < other.low or other.high < one.low


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(lay_out(table))


if __name__ == "__main__":
    raise SystemExit(main())
