"""What a run says beside its results, on standard error: warnings, each once, and what it waits for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@cache
def warn(line: str) -> None:
    """Say what went wrong without stopping the run; what has been said is not said again.

    Args:
        line: What, where, and what was done about it. Control characters become spaces.
    """
    with suppress(OSError, ValueError):  # standard error is closed: nobody listens
        print(f"entitrack: warning: {_CONTROL.sub(' ', line)}", file=sys.stderr, flush=True)


def say(line: str) -> None:
    """Say what a run is going to wait for. Control characters become spaces."""
    with suppress(OSError, ValueError):
        print(f"entitrack: {_CONTROL.sub(' ', line)}", file=sys.stderr, flush=True)


@contextmanager
def under_way(what: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is waited for, in one line that is ended when it is there; elsewhere say nothing.

    Args:
        what: What takes time.

    Yields:
        What takes the end of the line: what came of it.
    """
    ends: list[str] = []
    shown = sys.stderr is not None and sys.stderr.isatty()
    _write(f"{_CONTROL.sub(' ', what)} ...", shown)
    try:
        yield ends.append
    finally:
        _write(f" {' '.join(ends) or 'failed'}\n", shown)


def _write(text: str, shown: bool) -> None:
    with suppress(OSError, ValueError):
        if shown:
            sys.stderr.write(text)
            sys.stderr.flush()
