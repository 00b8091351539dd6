"""Files that are there with all of their content, or not at all.

A file is written under another name beside its place and takes its place once it is whole and on the disk. A process
that is killed in between leaves the other name behind; who comes later removes it.

The writer holds a lock on what it writes, which the kernel lets go when the writer ends, however it ends: a file whose
lock is free has no writer, whatever its age and whoever has the writer's process number by now. Some network folders
do not pass locks on to other machines; files begun on another machine are therefore also left alone for a day.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX, _SUFFIX = "entitrack-", ".part"
_DAY_S = 24 * 60 * 60.0


@contextmanager
def appearing(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream whose file is at `path` once the block ends, and nowhere if it fails.

    Folders above it are made. The file follows the umask, as any other. It is on the disk before it takes its place:
    some file systems tell only then that they are full.

    Args:
        path: Where the file appears; what is there before is replaced.

    Yields:
        The stream to write to.

    Raises:
        OSError: If it cannot be written; names `path` where the system names no file (a full disk).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        handle, temporary = _begin(path.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def clean_up(folder: Path) -> None:
    """Remove what killed writers left behind in `folder` and below; what cannot be removed stays.

    Args:
        folder: Where `appearing` was used; it need not exist.
    """
    here = _begun_here("")
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_abandoned(Path(place, name), 0.0 if name.startswith(here) else _DAY_S)


def _begin(folder: Path) -> tuple[int, Path]:
    """A new file to write to, locked; a handle and its path.

    Between making and locking it, `clean_up` of another process may take it for abandoned: then it is gone from the
    folder when the lock is there, and another one is begun.
    """
    while True:
        path = folder / _begun_here(secrets.token_hex(8) + _SUFFIX)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, path
        os.close(handle)


def _begun_here(rest: str) -> str:
    """The name of a file that this machine writes."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return f"{_PREFIX}{machine}-{rest}"


def _remove_abandoned(path: Path, age_s: float) -> None:
    """Remove a file that nobody writes to, if it has not been touched for `age_s` seconds."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(handle).st_mtime >= age_s:
            path.unlink()
    finally:
        os.close(handle)
