"""Jobs outlive the client: one that dies or is stopped collects them when it comes back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.models.family import Family
from entitrack.runtime.backends import Local
from tests.remote import matrix
from tests.remote.command import BATCHES, Command, wait_for
from tests.remote.harness import Loopback, largest_difference
from tests.remote.scenarios import UNITS, Bench


@pytest.fixture
def command(server: Loopback, golden_folder: Path, tmp_path: Path) -> Iterator[Command]:
    yield Command(server, golden_folder, tmp_path)
    server.order("slow_queue", 0)


def test_a_killed_client_collects_its_jobs(command: Command, server: Loopback, tmp_path: Path) -> None:
    before = server.counts()
    server.order("slow_queue", 1, 2.0)
    process = command.start()
    wait_for(lambda: command.noted() == BATCHES, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    submitted = server.counts()["jobs"]
    said, _ = command.finish()
    after = server.counts()
    assert submitted - before["jobs"] == BATCHES
    assert after["jobs"] == submitted
    assert after["executed"] - before["executed"] == BATCHES
    assert f"0 jobs submitted, {BATCHES} collected from an earlier run" in said
    assert command.noted() == 0
    record = json.loads(next(tmp_path.glob("evaluate/*/result.json")).read_text())
    assert (record["cost"]["jobs"], record["cost"]["collected"]) == (0, BATCHES)
    written = "".join(file.read_text() for file in tmp_path.rglob("*") if file.suffix in (".json", ".yaml"))
    assert "secret-of-mine" not in written


def test_ctrl_c_says_how_to_go_on(command: Command, server: Loopback, tmp_path: Path) -> None:
    server.order("slow_queue", 1, 2.0)
    process = command.start()
    wait_for(lambda: command.noted() == BATCHES, process)
    os.kill(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{BATCHES} jobs go on on the server" in complaint
    assert "to go on: python -m entitrack.run method=evaluate" in complaint
    assert "secret-of-mine" not in complaint
    assert "Traceback" not in complaint


def test_finished_units_are_not_submitted_again(bench: Bench) -> None:
    bench.run(bench.runner("kept"))
    before = bench.server.counts()["jobs"]
    again = bench.runner("kept")
    results = bench.run(again)
    assert bench.server.counts()["jobs"] == before
    assert again.cost.reused == UNITS
    assert largest_difference(results, bench.right) <= 1e-6


def test_jobs_in_flight_are_bounded_and_more_than_one(
    server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    backend = server.backend(in_flight=2)
    most = 0
    look = backend._look

    def watch(cost: Any) -> None:
        nonlocal most
        most = max(most, sum(job.ended is None for job, _ in backend._open))
        look(cost)

    backend._look = watch  # type: ignore[method-assign]
    here = matrix.run("cmap", matrix.experiment(full_family, golden_circuit, Local(), batch_size=4))
    remote = matrix.run("cmap", matrix.experiment(bare_family, golden_circuit, backend, batch_size=4))
    assert most == 2
    assert max(matrix.differences(here, remote).values()) <= 1e-6


def test_a_job_that_takes_too_long_goes_on_and_is_collected(bench: Bench) -> None:
    before = bench.server.counts()["jobs"]
    bench.server.order("hang", 1, 1.5)
    with pytest.raises(UserError, match=r"backend.timeout_s: .* did not finish in 0.5 s .[A-Z]+.; it goes on on the"):
        bench.run(bench.runner("slow", timeout_s=0.5))
    again = bench.runner("slow")
    assert largest_difference(bench.run(again), bench.right) <= 1e-6
    assert (again.cost.jobs, again.cost.collected) == (0, UNITS)
    assert bench.server.counts()["jobs"] == before + UNITS


def test_a_job_that_is_waited_for_in_vain_twice_is_submitted_anew(bench: Bench) -> None:
    bench.server.order("hang", 1, 3.0)
    for _ in range(2):
        with pytest.raises(UserError, match="did not finish"):
            bench.run(bench.runner("stuck", timeout_s=0.3))
    again = bench.runner("stuck")
    assert largest_difference(bench.run(again), bench.right) <= 1e-6
    assert (again.cost.jobs, again.cost.collected) == (1, UNITS - 1)
