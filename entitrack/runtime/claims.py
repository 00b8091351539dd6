"""Who works on which unit, among all processes on one store: every unit is run once.

1. A unit's lock is taken before it is started, and let go when its record is there. A killed process's locks are free.
2. A unit whose lock another process holds is waited for when its result is needed, and then found in the store; if it
   is not (that process failed), it is run here.
3. A process that waits holds nothing: all that it has started is finished first. So two processes cannot wait for
   each other, in whatever order they need their units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from entitrack.core.notices import warn
from entitrack.runtime.store import Lock, Store

Pending = Callable[[], dict[str, Any]]
"""A unit that was started: calling it waits for the result, as CPU tensors."""

_SAY_AFTER_S = 2.0


class _Claim:
    """A unit that this process has started, and its lock.

    Args:
        pending: Waits for the result and keeps it.
        lock: Taken.
    """

    def __init__(self, pending: Pending, lock: Lock) -> None:
        self._pending, self._lock = pending, lock
        self._result: dict[str, Any] | None = None
        self._held = True

    def finish(self) -> dict[str, Any]:
        """The result, waited for once; then the lock is let go. A unit that fails is free as well."""
        if self._result is None:
            try:
                self._result = self._pending()
            finally:
                self.free()
        return self._result

    def free(self) -> None:
        """Let the lock go."""
        if self._held:
            self._held = False
            self._lock.free()


class Claims:
    """The units that one run has started on a store.

    Args:
        store: The store.
        on_reuse: Called for every unit whose result was found and not computed.
    """

    def __init__(self, store: Store, on_reuse: Callable[[], None]) -> None:
        self._store, self._on_reuse = store, on_reuse
        self._open: dict[str, _Claim] = {}
        self._clean = False

    def find(self, key: str) -> Pending | None:
        """The result of a unit that is in the store or that this run has started; None if neither is so."""
        if key in self._open:
            pending = self._open[key].finish
        else:
            found = self._store.get(key)
            if found is None:
                return None
            pending = partial(_same, found)
        self._on_reuse()
        return pending

    def begin(self, key: str, start: Callable[[], Pending]) -> Pending:
        """Start a unit, or wait for it later if another process is at work on it.

        Args:
            key: The unit.
            start: Starts it; what it returns waits for the result and keeps it.
        """
        if not self._clean:
            self._store.clean_up()
            self._clean = True
        lock = self._store.lock(key)
        return self._start(key, start, lock) if lock.take() else partial(self._wait, key, start, lock)

    def free(self, keys: Iterable[str]) -> None:
        """Let go of those units that are started and not finished."""
        for key in keys:
            claim = self._open.pop(key, None)
            if claim:
                claim.free()

    def _wait(self, key: str, start: Callable[[], Pending], lock: Lock) -> dict[str, Any]:
        """The result of a unit that another process was at work on when it was first asked for."""
        if not lock.take():
            for claim in list(self._open.values()):
                claim.finish()
            if not lock.take(_SAY_AFTER_S):
                warn("store: another run is at work on what this one needs; waiting for it")
                lock.take(float("inf"))
        return self._start(key, start, lock)()

    def _start(self, key: str, start: Callable[[], Pending], lock: Lock) -> Pending:
        """Start a unit whose lock is taken; another process may have finished it just before."""
        try:
            found = self.find(key)
            if found is None:
                claim = self._open[key] = _Claim(partial(self._finish, key, start()), lock)
                return claim.finish
        except BaseException:
            lock.free()
            raise
        lock.free()
        return found

    def _finish(self, key: str, pending: Pending) -> dict[str, Any]:
        """Wait for a result; failed or not, the unit is no longer one that is started."""
        try:
            return pending()
        finally:
            self._open.pop(key, None)


def _same(found: dict[str, Any]) -> dict[str, Any]:
    return found
