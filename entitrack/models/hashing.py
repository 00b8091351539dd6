"""Digests of whole files, paid once.

A digest is kept in the user's cache (`$XDG_CACHE_HOME/entitrack/digests`, by default `~/.cache/entitrack/digests`), one
small file for each file hashed, beside the path, size, inode and times that the file had. It is taken from there only
if all of these are still the same. The cache can fail no run: one that cannot be read, is damaged or cannot be written
costs the time of hashing again.

A file may be edited without its size changing and within one tick of its times, so a digest is kept only if the file
had been left alone for two seconds (the coarsest tick, that of FAT) when hashing began: an edit after that moves the
times. Times can be set back by hand, but not that of the inode's last change, which is compared too. What remains is a
file that is written through a memory map while it is hashed, or a clock that is set back: neither is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from entitrack.core.errors import UserError
from entitrack.disk.files import appearing

_SETTLED_NS = 2_000_000_000
_WORTH_KEEPING = 1 << 24
_TRIES = 3


@dataclass(frozen=True)
class FileState:
    """What the system knows of a file; it differs after an edit, up to the ticks of the times."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    def settled(self, now_ns: int) -> bool:
        """Whether the file had been left alone long enough, so that any later edit moves its times."""
        return max(self.mtime_ns, self.ctime_ns) + _SETTLED_NS < now_ns


def file_state(path: Path) -> FileState:
    """The state of a file, links followed."""
    found = path.stat()
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


@dataclass(frozen=True)
class DigestCache:
    """Digests of files that were hashed before.

    Attributes:
        folder: Where they are; made when the first is kept. None keeps nothing.
        least: Smaller files are not worth an entry: hashing them takes no time.
    """

    folder: Path | None
    least: int = _WORTH_KEEPING

    def get(self, path: Path, state: FileState) -> str | None:
        """The digest of a file that is in that state, if it is known."""
        if self.folder is None or state.size < self.least:
            return None
        try:
            entry = json.loads(self._entry(path).read_bytes())
            expected = _checked(path, state, str(entry["sha256"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return str(entry["sha256"]) if entry == expected else None

    def put(self, path: Path, state: FileState, digest: str) -> None:
        """Keep a digest, if that is possible."""
        if self.folder is None or state.size < self.least:
            return
        try:
            with appearing(self._entry(path)) as stream:
                stream.write(json.dumps(_checked(path, state, digest)).encode())
        except OSError:
            return

    def _entry(self, path: Path) -> Path:
        assert self.folder is not None
        return self.folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def user_cache_folder() -> Path | None:
    """The folder of what is kept for the user who runs this, and may be deleted; None where there is no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        root = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return root / "entitrack"


def user_cache() -> DigestCache:
    """The digests of the user who runs this; it keeps nothing where there is no home."""
    folder = user_cache_folder()
    return DigestCache(folder / "digests" if folder else None)


def file_digest(path: Path, cache: DigestCache, place: str = "model") -> str:
    """The SHA-256 of every byte of a file.

    Raises:
        UserError: It is being written to; `place` is the config key that named it.
        OSError: It cannot be read.
    """
    path = path.resolve()
    for _ in range(_TRIES):
        begun, state = time.time_ns(), file_state(path)
        known = cache.get(path, state)
        if known is not None:
            return known
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if file_state(path) == state:
            if state.settled(begun):
                cache.put(path, state, digest)
            return digest
    raise UserError(place, f"{str(path)!r} changes while it is read", fix="wait until it is written")


def files_digest(files: Mapping[str, Path], cache: DigestCache, place: str = "model") -> str:
    """A digest of the names and of every byte of files."""
    return record_digest({name: file_digest(path, cache, place) for name, path in files.items()})


def record_digest(record: object) -> str:
    """A digest of plain values in any nesting; the order of keys is nothing to it."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]


def _checked(path: Path, state: FileState, digest: str) -> dict[str, object]:
    """An entry, with a digest of itself: one flipped bit makes it worthless, not wrong."""
    entry = {"path": os.fsdecode(path), **asdict(state), "sha256": digest}
    return {**entry, "check": record_digest(entry)}
