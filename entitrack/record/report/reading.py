"""Which runs a report is about: folders of single runs, and folders that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entitrack.core.errors import UserError, quoted
from entitrack.core.notices import warn
from entitrack.core.result import Result
from entitrack.record.folder import RESULT
from entitrack.record.loading import load

MOST = 200
"""More runs than these are no report."""


@dataclass(frozen=True)
class Run:
    """A run that was read.

    Attributes:
        folder: Where it lies, as it was named.
        result: What is in it.
    """

    folder: Path
    result: Result

    @property
    def about(self) -> str:
        """Family and models that it is about, and its prompts, in a few words."""
        config = self.result.provenance.get("config", {})
        family, task = (config.get(name, {}).get("name", "") for name in ("model", "task"))
        facts = self.result.facts
        pair = f"{facts['donor']} \u2192 {facts['base']}" if {"donor", "base"} <= set(facts) else facts.get("model", "")
        return " \u00b7 ".join(str(part) for part in (family, pair, task) if part)


def read_runs(places: Sequence[Path]) -> list[Run]:
    """All runs in some folders, in the order of their names; what cannot be read is told, and left out.

    Raises:
        UserError: A folder is none, holds no run, or all are more than a report can hold.
    """
    folders = list(dict.fromkeys(folder for place in places for folder in _folders(place)))
    if len(folders) > MOST:
        raise UserError("folders", f"hold {len(folders)} runs, and a report holds {MOST}", fix="name some of them")
    runs = []
    for folder in folders:
        try:
            runs.append(Run(folder, load(folder)))
        except UserError as error:
            warn(f"left out: {error}")
    if not runs:
        raise UserError("folders", "hold no run that can be read", fix="run again, or name others")
    return runs


def _folders(place: Path) -> list[Path]:
    """The folders of finished runs in one place, itself or at any depth."""
    if not place.is_dir():
        raise UserError(
            quoted(str(place)), "is no folder", fix="pass the folder of a run, or one that holds such folders"
        )
    if (place / RESULT).is_file():
        return [place]
    found = sorted(path.parent for path in place.rglob(RESULT))
    if not found:
        raise UserError(
            quoted(str(place)), f"holds no {RESULT}, nor does a folder in it", fix="pass that of a finished run"
        )
    return found
