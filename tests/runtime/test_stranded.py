"""Which jobs are taken for lost."""

from __future__ import annotations

import contextlib
import socket
import time

import httpx
import pytest
from nnsight.schema.response import ResponseModel, Status

from entitrack.core.errors import UserError
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.jobs import Job
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.stranded import Queues
from entitrack.runtime.ndif.wire import Wire

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


def test_the_latest_that_has_ended_counts() -> None:
    queues = Queues(PATIENCE)
    queues.serve("m", ended(101.0, ago=12))
    queues.serve("m", ended(99.0, ago=11))
    assert queues.stranded("m", job(), None) == "it is QUEUED, and a job that was submitted after it has finished"


@pytest.mark.parametrize(
    ("answer", "down"),
    [
        (httpx.ReadError("reset"), True),
        (httpx.RemoteProtocolError("disconnected"), True),
        (502, True),
        (503, True),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.ConnectError("no such name"), False),
        (500, False),
        (404, False),
    ],
    ids=["reset", "disconnected", "502", "503", "slow", "not found", "an error", "no such job"],
)
def test_a_server_that_is_down_is_told_from_a_way_that_is_closed(answer: int | Exception, down: bool) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, stream=httpx.ByteStream(b"no"))

    wire = Wire(Settings(host="http://server", retries=0, reconnect_s=0), httpx.MockTransport(handle))
    with contextlib.suppress(UserError):
        wire.state("a", Cost())
    assert wire.away == (NOW if down else None)


def test_nobody_who_listens_is_a_server_that_is_down() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    wire = Wire(Settings(host=address, retries=0))
    with pytest.raises(UserError, match="the connection failed"):
        wire.state("a", Cost())
    assert wire.away == NOW


def test_a_job_found_by_another_run_is_watched_first() -> None:
    queues = Queues(PATIENCE)
    queues.serve("m", ended(101.0, ago=30))
    assert not queues.stranded("m", job(seen=NOW - 5), None)
