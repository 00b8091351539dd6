"""Which run used which units of a store: a note a run, so that one can see what fills it and take out what is old.

    runs/                  of a store: what each run used, by a digest of where its result is

Units that no note names were used by nothing that finished here: a killed run, a benchmark, a version without notes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from entitrack.core.errors import UserError
from entitrack.disk.files import appearing
from entitrack.disk.reading import read_json

RUNS = "runs"


@dataclass(frozen=True)
class Use:
    """What a run used.

    Attributes:
        run: Where its result is.
        method: Its method.
        date: When it was.
        units: Key of each unit -> name of the model that it was run on.
    """

    run: str
    method: str
    date: str
    units: Mapping[str, str]


def note_use(root: Path, use: Use) -> None:
    """Note what a run used; a note of an earlier one in the same place is replaced."""
    name = hashlib.sha256(use.run.encode()).hexdigest()[:32]
    with appearing(root / RUNS / f"{name}.json") as stream:
        stream.write((json.dumps(asdict(use)) + "\n").encode())


def uses(root: Path) -> Iterator[Use]:
    """All notes of a store, the oldest first; what is none is passed over.

    Raises:
        OSError: One cannot be read.
    """
    found = [use for path in (root / RUNS).glob("*.json") if (use := _read(path)) is not None]
    yield from sorted(found, key=lambda use: use.date)


def _read(path: Path) -> Use | None:
    try:
        record = read_json(str(path), str(path))
    except UserError:
        return None
    run, method, date, units = (record.get(name) for name in ("run", "method", "date", "units"))
    if not all(isinstance(word, str) for word in (run, method, date)) or not isinstance(units, dict):
        return None
    return Use(str(run), str(method), str(date), {str(key): str(model) for key, model in units.items()})
