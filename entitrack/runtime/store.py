"""Finished work, kept by its content: what was computed once is never computed again.

A unit of work is one intervention on one batch; its key is a digest of everything that its result depends on
(`entitrack.runtime.keys`). Units are files (`entitrack.disk.records`) that appear whole or not at all, so a run may
be killed at any moment and picks up where it was. For units that a server works on, the job is noted beside them.

    ab/cdef….safetensors   a record, by its key
    jobs/                  what is noted of jobs on a server
    locks/                 units that a process is at work on
    set_aside/             what was found here and could not be trusted

A file that is not what it should be is named, set aside and never used; nothing is ever deleted but locks, and what a
killed process had only begun to write. Errors of the system (rights, handles, space) are not taken for damage: they
go on to the caller, and nothing is touched. Records of earlier versions (`.pt`) are not read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from entitrack.core.errors import UserError
from entitrack.core.notices import warn
from entitrack.disk.files import appearing, clean_up
from entitrack.disk.records import BadRecord, pack, unpack
from entitrack.runtime.job_notes import JobNote, read_note, write_note
from entitrack.runtime.keys import code_digest, unit_key

__all__ = ["JobNote", "Lock", "Store", "code_digest", "unit_key"]


_SMALLER = "free some, or use a smaller batch_size"


class Lock:
    """The right to work on a unit, among all processes on one store.

    The kernel lets it go when the process ends, however it ends. Within a process it may be taken again. Its file is
    removed by the holder: who waits for a file that is gone makes a new one (so `filelock` does).

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, thread_local=False, is_singleton=True)

    def take(self, patience_s: float = 0.0) -> bool:
        """Whether the lock could be had.

        Args:
            patience_s: How long to wait for another process; infinite is allowed.

        Raises:
            OSError: There can be no lock here: no rights, no handles, no such thing on this file system.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=-1 if patience_s == float("inf") else patience_s)
        except Timeout:
            return False
        return True

    def free(self) -> None:
        """Let the lock go, if it is held."""
        if self._lock.lock_counter == 1:
            self._path.unlink(missing_ok=True)
        self._lock.release()


@dataclass(frozen=True)
class Store:
    """A folder of finished units.

    Attributes:
        root: The folder; made when the first unit is begun.
    """

    root: Path

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of a unit, or None.

        A record that is damaged, or of another unit, counts as absent and is set aside; if another process is at work
        on the unit, that is left to it.

        Raises:
            OSError: The record cannot be read; it is left alone.
            UserError: It does not fit into memory; it is left alone.
        """
        return self._trusted(key, self._path(key), lambda content: unpack(key, content), "computed again")

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a unit; a job that was running for it is forgotten.

        Raises:
            OSError: It cannot be written; nothing is left of it.
            TypeError: There is something in it that is neither tensor nor plain.
            UserError: There is no memory to write it.
        """
        try:
            content = pack(key, result)
        except MemoryError as error:
            raise UserError("store", f"no memory to keep the result of unit {key}", fix=_SMALLER) from error
        with appearing(self._path(key)) as stream:
            stream.write(content)
        self.forget_job(key)

    def has(self, key: str) -> bool:
        """Whether there is a record of a unit."""
        return self._path(key).is_file()

    def lock(self, key: str) -> Lock:
        """The lock of a unit, not yet taken."""
        return Lock(self.root / "locks" / key)

    def clean_up(self) -> None:
        """Remove what killed processes left: half-written files, and locks that nobody holds."""
        clean_up(self.root)
        for path in (self.root / "locks").glob("*"):
            lock = Lock(path)
            with suppress(OSError):  # another user's: theirs to clean up
                if lock.take():
                    lock.free()

    def job(self, key: str) -> JobNote | None:
        """What was noted of the job that runs for a unit on a server, or None; damaged notes are set aside.

        Raises:
            OSError: The note cannot be read; it is left alone.
        """
        read = lambda content: read_note(key, content)  # noqa: E731
        return self._trusted(key, self._job_path(key), read, "a job that it told of may be run again")

    def note_job(self, key: str, note: Mapping[str, Any]) -> None:
        """Note the job that runs for a unit, so that it can be collected even if this process dies."""
        with appearing(self._job_path(key)) as stream:
            stream.write(write_note(key, note))

    def forget_job(self, key: str) -> None:
        """Forget the job of a unit, if there is one."""
        self._job_path(key).unlink(missing_ok=True)

    def job_count(self) -> int:
        """Number of jobs that are noted."""
        return sum(1 for _ in (self.root / "jobs").glob("*.json"))

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key[2:]}.safetensors"

    def _job_path(self, key: str) -> Path:
        return self.root / "jobs" / f"{key}.json"

    def _trusted(self, key: str, path: Path, read: Callable[[bytes], Any], outcome: str) -> Any:
        """What `read` makes of a file; None if there is none, or none that it takes.

        What it does not take is set aside under the unit's lock, and read again before: another process may have put
        a good one in its place.
        """
        try:
            return _read(path, read)
        except BadRecord:
            pass
        lock = self.lock(key)
        if not lock.take():
            return None
        try:
            return _read(path, read)
        except BadRecord as error:
            aside = self._set_aside(path)
            warn(f"store: {path} cannot be trusted: {error}; set aside as {aside}; {outcome}")
            return None
        finally:
            lock.free()

    def _set_aside(self, path: Path) -> Path:
        """Move a file to where nobody looks for it and nothing is replaced."""
        aside = self.root / "set_aside" / f"{path.parent.name}-{path.stem}-{secrets.token_hex(4)}{path.suffix}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        path.rename(aside)
        return aside


def _read(path: Path, read: Callable[[bytes], Any]) -> Any:
    """What `read` makes of a file's content; None if there is none."""
    try:
        with _named(path):
            return read(path.read_bytes())
    except FileNotFoundError:
        return None
    except MemoryError as error:
        raise UserError("store", f"no memory to read {path}; it is left as it is", fix=_SMALLER) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the system that name no file name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
