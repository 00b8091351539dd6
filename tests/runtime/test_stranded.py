"""Which jobs are taken for lost."""

from __future__ import annotations

import time

import pytest
from nnsight.schema.response import ResponseModel, Status

from entitrack.runtime.ndif.jobs import Job
from entitrack.runtime.ndif.stranded import Queues

PATIENCE = 10.0
NOW = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: NOW)


def job(status: Status = Status.QUEUED, submitted: float = 100.0, seen: float = NOW - 60) -> Job:
    made = Job("a", submitted, seen=seen)
    made.last = ResponseModel(id="a", status=status)
    return made


def ended(submitted: float, ago: float) -> Job:
    made = job(Status.COMPLETED, submitted)
    made.ended = NOW - ago
    return made


@pytest.mark.parametrize("status", [Status.RECEIVED, Status.QUEUED, Status.PROVISIONING, Status.DEPLOYING])
def test_what_waited_when_the_server_was_away_is_lost(status: Status) -> None:
    said = Queues(PATIENCE).stranded("m", job(status), NOW - 11)
    assert said == f"it was {status.value} when the server was away, and has not gone on since"


@pytest.mark.parametrize(
    ("status", "seen", "away"),
    [
        (Status.RUNNING, NOW - 60, NOW - 11),
        (Status.DISPATCHED, NOW - 60, NOW - 11),
        (Status.QUEUED, NOW - 60, NOW - 9),
        (Status.QUEUED, NOW - 5, NOW - 11),
        (Status.QUEUED, NOW - 60, None),
    ],
    ids=["it runs", "it is on its way", "not long ago", "submitted since", "it was never away"],
)
def test_what_may_still_run_is_not(status: Status, seen: float, away: float | None) -> None:
    assert Queues(PATIENCE).stranded("m", job(status, seen=seen), away) == ""


@pytest.mark.parametrize(
    ("other", "model", "lost"),
    [
        (ended(101.0, ago=11), "m", True),
        (ended(101.0, ago=9), "m", False),
        (ended(99.0, ago=11), "m", False),
        (ended(101.0, ago=11), "n", False),
        (job(Status.RUNNING, 101.0), "m", False),
    ],
    ids=["later", "not long ago", "earlier", "another model's", "not ended"],
)
def test_what_a_later_job_has_passed_is_lost(other: Job, model: str, lost: bool) -> None:
    queues = Queues(PATIENCE)
    queues.serve(model, other)
    assert bool(queues.stranded("m", job(), None)) == lost


def test_a_job_found_by_another_run_is_watched_first() -> None:
    queues = Queues(PATIENCE)
    queues.serve("m", ended(101.0, ago=30))
    assert not queues.stranded("m", job(seen=NOW - 5), None)
