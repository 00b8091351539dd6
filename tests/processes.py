"""Other processes on a store: they hold locks, run units, and are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = """
import sys
from pathlib import Path
from entitrack.runtime.store import Store
lock = Store(Path(sys.argv[1])).lock(sys.argv[2])
assert lock.take()
print("holding", flush=True)
sys.stdin.read()
"""

_WRITE = """
import os, sys, torch
from pathlib import Path
from entitrack.runtime.store import Store
def stop(*_):
    print("writing", flush=True)
    sys.stdin.read()
os.fsync = stop
store = Store(Path(sys.argv[1]))
lock = store.lock(sys.argv[2])
assert lock.take()
store.put(sys.argv[2], {"a": torch.ones(1000)})
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs some code; waits for its first line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


@contextmanager
def holding(store: Path, key: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a unit's lock; it is killed at the end."""
    process = start(_HOLD, store, key)
    try:
        yield process
    finally:
        kill(process)


def kill_while_writing(store: Path, key: str) -> None:
    """Have a process killed in the midst of writing a unit."""
    kill(start(_WRITE, store, key))
