"""A run that would exceed a budget is refused with the estimate, before the job that would."""

from __future__ import annotations

from typing import Any

import pytest

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.runtime.backends import dry_run
from tests.remote import matrix
from tests.remote.scenarios import UNITS, Bench


@pytest.mark.parametrize(
    ("budget", "estimate"),
    [
        ({"max_jobs": UNITS - 1}, f"needs at least {UNITS} jobs .* the budget is {UNITS - 1}"),
        ({"max_upload_bytes": 6000}, "would send about .* bytes .* the budget is 6,000"),
    ],
)
def test_a_run_beyond_its_budget_is_refused_at_once(bench: Bench, budget: dict[str, Any], estimate: str) -> None:
    before = bench.server.counts()["posts"]
    with pytest.raises(UserError, match=estimate):
        bench.run(bench.runner("refused", **budget))
    assert bench.server.counts()["posts"] == before


def test_a_run_within_its_budget_goes_on(bench: Bench) -> None:
    runner = bench.runner("within", max_jobs=UNITS, max_upload_bytes=100_000, max_seconds=600)
    assert len(bench.run(runner)) == UNITS


def test_what_is_in_the_store_costs_no_budget(bench: Bench) -> None:
    bench.run(bench.runner("kept"))
    runner = bench.runner("kept", max_jobs=0)
    assert len(bench.run(runner)) == UNITS


def test_a_dry_run_counts_what_a_server_is_sent(bench: Bench, golden_circuit: Circuit) -> None:
    """But for what carries a payload, and asking."""
    dry = matrix.run("cmap", matrix.experiment(bench.full, golden_circuit, dry_run())).cost
    sent = matrix.run("cmap", matrix.experiment(bench.bare, golden_circuit, bench.server.backend())).cost
    assert dry.simulated == sent.jobs > 0
    assert dry.wire_up < sent.wire_up < dry.wire_up + 1500 * sent.jobs
    assert dry.wire_down < sent.wire_down


def test_seconds_are_estimated_from_finished_jobs(bench: Bench) -> None:
    bench.server.order("hang", 9, 0.5)  # whichever job comes first
    runner = bench.runner("slow", max_seconds=0.6, in_flight=1)
    try:
        with pytest.raises(UserError, match=r"would take about .* s on the server"):
            bench.run(runner)
    finally:
        bench.server.order("hang", 0)
    assert runner.cost.units == 1
