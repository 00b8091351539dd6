"""What jobs took, as the server says: recorded, and followed where there is too little memory."""

from __future__ import annotations

from typing import Any

import pytest
from nnsight.schema.response import ResponseModel, Status

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.methods import run_method, settings_of
from entitrack.models.family import Family
from entitrack.runtime.backends import Local
from entitrack.runtime.ndif import jobs
from entitrack.runtime.ndif.failure import JobOutOfMemory
from entitrack.runtime.ndif.jobs import Job
from entitrack.runtime.ndif.usage import Usage
from entitrack.runtime.store import Store
from tests.remote import matrix
from tests.remote.harness import Loopback, largest_difference
from tests.remote.scenarios import Bench

GIB = 2**30
FULL = {
    "runtime": 1.5,
    "max_memory_usage": GIB,
    "max_mem_by_gpu": {"0": GIB, "1": 5},
    "max_mem_pct_by_gpu": {"0": 25.0, "1": 0.0},
    "alloc_shortfall_by_gpu": {"0": 3 * GIB},
}


def test_what_a_server_says_is_read() -> None:
    usage = Usage.of(FULL)
    assert usage == Usage(1.5, {"0": GIB, "1": 5}, {"0": 25, "1": 0}, {"0": 3 * GIB}, out_of_memory=True)
    assert usage.fits == 0.25
    assert Usage.of(None) == Usage()
    assert Usage.of({"runtime": None, "max_mem_by_gpu": {}}).fits is None


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), 10**400, "7", True, [1], {"a": {}}])
def test_what_makes_no_sense_is_left_out(wrong: Any) -> None:
    assert Usage.of({"runtime": wrong, "max_mem_by_gpu": {"0": wrong}, "max_mem_pct_by_gpu": wrong}) == Usage()


def test_the_phases_of_a_job_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: clock[0])
    job = Job("1", submitted=0.0, seen=0.0)
    for at, status in ((1, "QUEUED"), (3, "PROVISIONING"), (10, "DEPLOYING"), (40, "QUEUED"), (45, "RUNNING")):
        clock[0] = at
        job.hear(ResponseModel(id="1", status=Status(status)))
    assert (job.queued_s, job.deploying_s, job.waited_s) == (45 - 37, 37, 8)
    clock[0] = 50.0
    job.hear(ResponseModel(id="1", status=Status.COMPLETED))
    assert (job.queued_s, job.deploying_s, job.running_s) == (8, 37, 5)
    assert job.last
    job.last.meta = FULL
    assert job.running_s == 1.5


def test_memory_and_seconds_come_from_the_server(bench: Bench) -> None:
    bench.server.order("memory", 1)
    runner = bench.runner("usage")
    try:
        bench.run(runner)
    finally:
        bench.server.order("memory", 0)
    assert (runner.cost.gpu_bytes, runner.cost.gpu_percent) == (GIB, 25.0)
    assert runner.cost.running_s > 0
    record = runner.backend.record()
    assert record["gpus"] == {"0": {"bytes": GIB, "percent": 25.0}}
    assert record["models"]["base"]["model.dtype"] == '"float32"'


def test_out_of_memory_lowers_the_size_of_batches(
    server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    """Seven prompts at a time are too many; by what was missing two fit, not three."""
    server.order("memory_for", 3)
    try:
        there = matrix.experiment(bare_family, golden_circuit, server.backend(in_flight=2))
        result = run_method("evaluate", there, settings_of("evaluate")())
    finally:
        server.order("memory_for", 0)
    here = matrix.experiment(full_family, golden_circuit, Local())
    expected = run_method("evaluate", here, settings_of("evaluate")())
    assert largest_difference(result["correct"].values, expected["correct"].values) == 0
    assert (result.facts["batch_size"], "batch_size" in expected.facts) == (2, False)
    assert there.runner.cost.out_of_memory == 1
    assert there.runner.backend.record()["missing_bytes"] == {"0": 2 * GIB}


def test_what_does_not_fit_and_cannot_be_made_smaller_is_said(bench: Bench) -> None:
    bench.server.order("memory_for", 1)
    try:
        with pytest.raises(JobOutOfMemory, match=r"failed.*CUDA out of memory") as caught:
            bench.run(bench.runner("tight"))
    finally:
        bench.server.order("memory_for", 0)
    assert isinstance(caught.value, UserError)
    assert (caught.value.fits, caught.value.prompts) == (1 / 3, 2)
    assert Store(bench.folder / "tight").job_count() == 0
