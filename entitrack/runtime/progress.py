"""What is under way, on standard error: a line on a terminal; elsewhere only what takes long, and once.

1. On a terminal one line says what runs, how much of it is done, since when, how long it will take, how much of it
   came from the store, and what a server is doing for it; it vanishes when it is done.
2. Elsewhere nothing is said but of a stage that will take more than a minute, once its first unit is computed.
3. How long it will take is told by the units that were computed: those from the store take no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from entitrack.core.notices import say

LONG_S = 60.0
"""Seconds that a stage may take before it is told of where there is no terminal."""

_whose: ContextVar[str] = ContextVar("whose", default="")


class Reuse(Protocol):
    """What counts the units that came from the store, as `Cost` does."""

    reused: int


@contextmanager
def named(whose: str) -> Iterator[None]:
    """What runs meanwhile is told as part of this: a step of a study, a job of a sweep."""
    token = _whose.set(whose)
    try:
        yield
    finally:
        _whose.reset(token)


def duration(seconds: float) -> str:
    """A time as a person says it: `40 s`, `3 min`, `2 h 10 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Pace:
    """How far a stage is.

    Attributes:
        total: Units that it has.
        done: Those that are there.
        reused: Those of them that came from the store.
        seconds: How long it has taken so far.
    """

    total: int
    done: int = 0
    reused: int = 0
    seconds: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that it will still take, if no more of it is in the store; None before a unit is computed."""
        computed = self.done - self.reused
        return self.seconds / computed * max(0, self.total - self.done) if computed > 0 else None

    @property
    def left(self) -> str:
        """The same in words."""
        return "" if self.left_s is None else f"about {duration(self.left_s)} left"

    @property
    def from_store(self) -> str:
        """How many came from the store, in words."""
        return f"{self.reused} reused" if self.reused else ""


@dataclass
class Tracker:
    """Tells how far the stages of a run are.

    Attributes:
        cost: Counts what came from the store.
        clock: The time, in seconds.
        waits_for: What is waited for elsewhere, in a few words; it is asked again and again.
    """

    cost: Reuse
    clock: Callable[[], float] = monotonic
    waits_for: Callable[[], str] = str

    def __call__(self, units: Iterable[Any], description: str, total: int) -> Iterator[Any]:
        """Iterate, and tell of it.

        Args:
            units: The units of a stage; each is asked for when the one before it is done with.
            description: The stage.
            total: How many there are; 0 where nobody knows.
        """
        description = f"{_whose.get()}{description}"
        console = Console(stderr=True)
        paced = self._paced(units, total)
        if console.is_terminal:
            return _on_a_line(paced, description, console, self.waits_for)
        return _said_once(paced, description)

    def _paced(self, units: Iterable[Any], total: int) -> Iterator[tuple[Any, Pace]]:
        """The units, each with how far the stage is when it is there."""
        before, begun = self.cost.reused, self.clock()
        for done, unit in enumerate(units, start=1):
            reused = min(done, self.cost.reused - before)
            yield unit, Pace(max(total, done), done, reused, self.clock() - begun)


class _Waiting(ProgressColumn):
    """What is waited for elsewhere, at the moment of showing it."""

    def __init__(self, waits_for: Callable[[], str]) -> None:
        super().__init__()
        self._waits_for = waits_for

    def render(self, task: Task) -> Text:
        return Text(self._waits_for())


def _on_a_line(
    paced: Iterator[tuple[Any, Pace]], description: str, console: Console, waits_for: Callable[[], str]
) -> Iterator[Any]:
    """The units, with a line on the terminal that vanishes when they are done."""
    told = (TextColumn("{task.fields[left]}"), TextColumn("{task.fields[reused]}"))
    counted = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*counted, *told, _Waiting(waits_for), console=console, transient=True) as progress:
        line = progress.add_task(description, total=None, left="", reused="")
        for unit, pace in paced:
            progress.update(line, completed=pace.done, total=pace.total, left=pace.left, reused=pace.from_store)
            yield unit


def _said_once(paced: Iterator[tuple[Any, Pace]], description: str) -> Iterator[Any]:
    """The units; a line once if they will take long."""
    silent = True
    for unit, pace in paced:
        if silent and pace.left_s is not None:
            silent = False
            if pace.left_s > LONG_S:
                told = ", ".join(filter(None, (pace.left, pace.from_store)))
                say(f"{description}: {pace.done} of {pace.total} done, {told}")
        yield unit
