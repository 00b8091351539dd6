"""What is in a store, what of it may go, and whether it is as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entitrack.core.errors import UserError, quoted
from entitrack.disk.records import BadRecord, unpack
from entitrack.runtime.store import Store
from entitrack.runtime.uses import Use, uses

DAY_S = 86_400


@dataclass(frozen=True)
class Unit:
    """A finished unit on the disk.

    Attributes:
        key: Its key.
        path: Its file.
        size: Bytes.
        written: When it was written, in seconds of the system's clock.
        used_by: Runs that used it.
    """

    key: str
    path: Path
    size: int
    written: float
    used_by: tuple[Use, ...]

    @property
    def models(self) -> list[str]:
        """Models that it was run on."""
        return list(dict.fromkeys(use.units[self.key] for use in self.used_by))


@dataclass(frozen=True)
class Choice:
    """Which units are meant; what is None or empty does not narrow them.

    Attributes:
        older_s: Seconds since they were written, at least.
        run: A run that used them, by the end of its folder.
        method: Method of a run that used them.
        model: Model that they were run on.
        unclaimed: Only those that no run's note names.
    """

    older_s: float | None = None
    run: str = ""
    method: str = ""
    model: str = ""
    unclaimed: bool = False

    def takes(self, unit: Unit, now: float) -> bool:
        """Whether a unit is meant."""
        return (
            (self.older_s is None or now - unit.written >= self.older_s)
            and (not self.run or any(_is_of(use.run, self.run) for use in unit.used_by))
            and (not self.method or any(use.method == self.method for use in unit.used_by))
            and (not self.model or self.model in unit.models)
            and (not self.unclaimed or not unit.used_by)
        )


def _is_of(run: str, asked: str) -> bool:
    return Path(run).parts[-len(Path(asked).parts) :] == Path(asked).parts


def units(root: Path) -> list[Unit]:
    """All finished units of a store.

    Raises:
        UserError: There is no such folder.
    """
    if not root.is_dir():
        raise UserError("--store", f"{quoted(str(root))} is no folder", fix="pass that of a run's `store`")
    by_key: dict[str, list[Use]] = {}
    for use in uses(root):
        for key in use.units:
            by_key.setdefault(key, []).append(use)
    return sorted(_units(root, by_key), key=lambda unit: unit.written)


def _units(root: Path, by_key: dict[str, list[Use]]) -> Iterator[Unit]:
    for path in root.glob("[0-9a-f][0-9a-f]/*.safetensors"):
        with suppress(FileNotFoundError):  # another process has just removed it
            about, key = path.stat(), path.parent.name + path.stem
            yield Unit(key, path, about.st_size, about.st_mtime, tuple(by_key.get(key, ())))


def prune(store: Store, chosen: Iterable[Unit]) -> list[Unit]:
    """Remove units, but for those that a process is at work on; gives those that are gone.

    Raises:
        OSError: One cannot be removed.
    """
    gone = []
    for unit in chosen:
        lock = store.lock(unit.key)
        if lock.take():
            try:
                unit.path.unlink(missing_ok=True)
                gone.append(unit)
            finally:
                lock.free()
    return gone


def damaged(chosen: Iterable[Unit]) -> Iterator[tuple[Unit, str]]:
    """Units that are not as they were written, and how; they are left where they are."""
    for unit in chosen:
        try:
            unpack(unit.key, unit.path.read_bytes())
        except BadRecord as error:
            yield unit, str(error)
        except OSError as error:
            yield unit, f"cannot be read ({error.strerror})"
