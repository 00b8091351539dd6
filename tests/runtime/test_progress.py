"""What is under way is a line on a terminal, and elsewhere said only where it takes long."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from rich.console import Console

from entitrack.core import notices
from entitrack.runtime import progress
from entitrack.runtime.backends import Cost
from entitrack.runtime.progress import Pace, Tracker, duration, named


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def units(clock: Clock, cost: Cost, *kinds: str) -> Iterator[str]:
    """Units that take half a minute, or are in the store."""
    for kind in kinds:
        if kind == "stored":
            cost.reused += 1
        else:
            clock.now += 30.0
        yield kind


def tracked(*kinds: str, total: int | None = None) -> list[str]:
    clock, cost = Clock(), Cost(reused=7)
    tracker = Tracker(cost, clock)
    return list(tracker(units(clock, cost, *kinds), "clean pass", len(kinds) if total is None else total))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (3569, "59 min"), (3600, "1 h 0 min"), (7800, "2 h 10 min")],
)
def test_times_are_those_that_a_person_says(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_left_is_told_by_what_was_computed() -> None:
    assert Pace(4, 1, 1, 0.1).left_s is None
    assert Pace(4, 2, 1, 10.0).left_s == 20.0
    assert (Pace(4, 2, 1, 10.0).left, Pace(4, 2, 1, 10.0).from_store) == ("about 20 s left", "1 reused")
    assert (Pace(4, 4, 4, 1.0).left, Pace(4, 4, 0, 1.0).from_store) == ("", "")


def test_a_long_stage_is_said_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["stored", "stored", *["computed"] * 4]
    assert tracked(*kinds) == kinds
    assert capsys.readouterr() == ("", "entitrack: clean pass: 3 of 6 done, about 90 s left, 2 reused\n")


@pytest.mark.parametrize("kinds", [["stored"] * 9, ["computed"] * 3, ["computed"], []])
def test_a_short_stage_says_nothing(kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tracked(*kinds) == kinds
    assert capsys.readouterr() == ("", "")


def test_more_units_than_were_known_of_are_no_fault() -> None:
    assert tracked("computed", "computed", total=1) == ["computed"] * 2
    assert tracked("computed", total=0) == ["computed"]


def test_a_stage_is_told_as_part_of_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with named("3/19 cmap: "):
        tracked(*["computed"] * 9)
    assert capsys.readouterr().err.startswith("entitrack: 3/19 cmap: clean pass: 1 of 9 done, about 4 min left")
    tracked(*["computed"] * 9)
    assert capsys.readouterr().err.startswith("entitrack: clean pass: ")


def test_a_terminal_has_one_line_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=120, legacy_windows=False)
    monkeypatch.setattr(progress, "Console", lambda **given: terminal)
    assert tracked("stored", "computed", "computed") == ["stored", "computed", "computed"]
    shown = stream.getvalue()
    assert "clean pass" in shown
    assert "3/3" in shown
    assert "1 reused" in shown
    assert shown.endswith("\x1b[2K")  # the line is wiped


def test_the_line_says_what_a_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=160, legacy_windows=False)
    monkeypatch.setattr(progress, "Console", lambda **given: terminal)
    clock, cost = Clock(), Cost()
    tracker = Tracker(cost, clock, lambda: "1 DEPLOYING, 3 QUEUED")
    assert list(tracker(units(clock, cost, "computed"), "clean pass", 1)) == ["computed"]
    assert "1 DEPLOYING, 3 QUEUED" in stream.getvalue()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(notices, "sys", SimpleNamespace(stderr=closed))
    assert len(tracked(*["computed"] * 9)) == 9
