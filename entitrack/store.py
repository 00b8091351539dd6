"""What finished work is kept: `python -m entitrack.store list|prune|verify [--store FOLDER]`.

1. `list` counts units by run, method, model or day, with their size and age.
2. `prune` says what would be removed, and removes it with `--yes`; a run that needs it computes it again.
3. `verify` reads every unit and names those that are not as they were written.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from time import time

from rich.console import Console

from entitrack.core.errors import UserError, quoted
from entitrack.core.table import Cell, Table
from entitrack.record.terminal import lay_out
from entitrack.runtime.housekeeping import DAY_S, Choice, Unit, damaged, prune, units
from entitrack.runtime.store import Store

USAGE = "python -m entitrack.store"
NOBODY = "no run that finished"
_AGES = {"h": 3600, "d": DAY_S, "w": 7 * DAY_S}
_BY: dict[str, Callable[[Unit], list[str]]] = {
    "run": lambda unit: list(dict.fromkeys(use.run for use in unit.used_by)),
    "method": lambda unit: list(dict.fromkeys(use.method for use in unit.used_by)),
    "model": lambda unit: unit.models,
    "day": lambda unit: [datetime.fromtimestamp(unit.written).date().isoformat()],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; gives the exit code: 1 where `verify` finds damage, 2 for a mistake."""
    asked = _parser().parse_args(arguments)
    try:
        return _DO[asked.action](asked)
    except UserError as error:
        print(f"entitrack.store: {error}", file=sys.stderr)
    except OSError as error:
        print(f"entitrack.store: {error.filename}: {error.strerror}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=USAGE, description="What finished work is kept, and what of it may go.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|prune|verify")
    told = {"list": "count what is there", "prune": "remove what is chosen", "verify": "read all, name what is damaged"}
    for name, words in told.items():
        action = actions.add_parser(name, help=words, description=words)
        action.add_argument("--store", type=Path, default=Path("outputs/store"), help="default: outputs/store")
        action.add_argument("--older", default="", metavar="AGE", help="written at least so long ago: 12h, 30d, 8w")
        action.add_argument("--run", default="", metavar="FOLDER", help="used by this run")
        action.add_argument("--method", default="", help="used by runs of this method")
        action.add_argument("--model", default="", help="run on this model")
        action.add_argument("--unclaimed", action="store_true", help="used by no run that finished")
    actions.choices["list"].add_argument("--by", choices=list(_BY), default="run", help="default: run")
    actions.choices["prune"].add_argument("--yes", action="store_true", help="do it; without, it is only said")
    return parser


def _chosen(asked: argparse.Namespace) -> list[Unit]:
    choice = Choice(_seconds(asked.older), asked.run, asked.method, asked.model, asked.unclaimed)
    now = time()
    return [unit for unit in units(asked.store) if choice.takes(unit, now)]


def _seconds(age: str) -> float | None:
    """An age in seconds; None where none is given.

    Raises:
        UserError: It is none.
    """
    if not age:
        return None
    found = re.fullmatch(r"(\d+)([hdw])", age)
    if not found:
        raise UserError("--older", f"{quoted(age)} is no age", fix="say 12h, 30d or 8w")
    return int(found[1]) * _AGES[found[2]]


def _list(asked: argparse.Namespace) -> int:
    chosen, now = _chosen(asked), time()
    groups: dict[str, list[Unit]] = {}
    for unit in chosen:
        for name in _BY[asked.by](unit) or [NOBODY]:
            groups.setdefault(name, []).append(unit)
    rows = tuple(_row(name, members, now) for name, members in groups.items())
    title = f"{asked.store}: {len(chosen)} units, {_megabytes(chosen)}"
    columns = (asked.by, *(("method",) if asked.by == "run" else ()), "models", "units", "size", "age")
    shown = rows if asked.by == "run" else tuple((row[0], *row[2:]) for row in rows)
    _console().print(lay_out(Table(title, columns, shown)))
    return 0


def _row(name: str, members: Sequence[Unit], now: float) -> tuple[Cell, ...]:
    """A run, method, model or day; its methods and models, units, size, and the age of the newest."""
    methods = dict.fromkeys(use.method for unit in members for use in unit.used_by if name in (use.run, NOBODY))
    models = dict.fromkeys(model for unit in members for model in unit.models)
    age = f"{(now - max(unit.written for unit in members)) / DAY_S:.1f} d"
    return (name, ", ".join(methods), ", ".join(models), len(members), _megabytes(members), age)


def _prune(asked: argparse.Namespace) -> int:
    chosen = _chosen(asked)
    told = f"{len(chosen)} units, {_megabytes(chosen)}"
    if not asked.yes:
        print(f"would remove {told}; add --yes to do it")
        return 0
    gone = prune(Store(asked.store), chosen)
    busy = f"; {len(chosen) - len(gone)} are at work and stay" if len(gone) < len(chosen) else ""
    print(f"removed {len(gone)} units, {_megabytes(gone)}{busy}")
    return 0


def _verify(asked: argparse.Namespace) -> int:
    chosen = _chosen(asked)
    bad = 0
    for unit, why in damaged(chosen):
        bad += 1
        print(f"{unit.path}: {why}")
    then = ": a run that needs one sets it aside and computes it again" if bad else ""
    print(f"{len(chosen)} units, {bad} damaged{then}")
    return 1 if bad else 0


def _megabytes(chosen: Sequence[Unit]) -> str:
    return f"{sum(unit.size for unit in chosen) / 1e6:.1f} MB"


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=120)


_DO = {"list": _list, "prune": _prune, "verify": _verify}

if __name__ == "__main__":
    raise SystemExit(main())
