"""A model that is not up is brought up by the first request, is waited for, and is told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.runtime.backends import Runner
from entitrack.runtime.ndif.backend import Ndif
from tests.remote.harness import largest_difference
from tests.remote.scenarios import UNITS, Bench


@pytest.fixture
def cold(bench: Bench) -> Model:
    """A model that the server has and that is not up: the golden base under another name."""
    bench.server.evict(bench.server.cold[0])
    bench.server.set(status_age=0.2)
    return named(bench.server.cold[0])


def named(folder: Path) -> Model:
    """A model as a client knows it, without weights."""
    family = Family("cold", "base", {"base": Checkpoint(str(folder))}, dispatch=False)
    return family.load("base")


def run(bench: Bench, model: Model, backend: Ndif) -> tuple[Runner, list[Any]]:
    runner = Runner(backend)
    return runner, list(runner.map(model, answer, bench.inputs))


def states_of(backend: Ndif) -> list[str]:
    """What a backend says that it waits for, whenever it asks; filled as it runs."""
    seen: list[str] = []
    look = backend._look

    def watch(cost: Any) -> None:
        look(cost)
        seen.append(backend.waits_for)

    backend._look = watch  # type: ignore[method-assign]
    return seen


def test_the_first_request_brings_a_model_up(bench: Bench, cold: Model, capsys: pytest.CaptureFixture[str]) -> None:
    bench.server.order("slow_deploy", 1, 0.3)
    backend = bench.server.backend()
    seen = states_of(backend)
    runner, results = run(bench, cold, backend)
    assert largest_difference(results, bench.right) <= 1e-6
    assert {"1 PROVISIONING", "1 DEPLOYING"} <= set(seen)
    assert runner.cost.jobs == UNITS + 1
    assert runner.cost.deploying_s > 0.3
    assert "is brought up for this run" in capsys.readouterr().err
    again, _ = run(bench, cold, bench.server.backend())
    assert (again.cost.jobs, again.cost.deploying_s) == (UNITS, 0)


def test_what_is_kept_of_it_is_found_when_it_is_up(bench: Bench, cold: Model) -> None:
    first = bench.server.backend()
    place = first.place(cold)
    assert bench.server.backend().place(cold) == place
    assert first.record()["models"]["base"]["model.dtype"] == '"float32"'


def test_a_model_that_goes_under_a_run_is_waited_for(bench: Bench, cold: Model) -> None:
    backend = bench.server.backend()
    backend.hosted(cold)
    bench.server.evict(bench.server.cold[0])
    bench.server.order("slow_deploy", 1, 0.2)
    runner, results = run(bench, cold, backend)
    assert largest_difference(results, bench.right) <= 1e-6
    assert runner.cost.deploying_s > 0


def test_it_is_refused_where_that_is_wished(bench: Bench, cold: Model) -> None:
    before = bench.server.counts()["posts"]
    with pytest.raises(
        UserError, match=r"model.members.base: .* does not host .*; backend.deploy=auto has it brought up"
    ):
        run(bench, cold, bench.server.backend(deploy="never"))
    assert bench.server.counts()["posts"] == before


def test_an_old_list_is_asked_for_again_before_a_refusal(bench: Bench) -> None:
    model = bench.bare.load("base")
    for age, found in ((0.3, True), (30.0, False)):
        bench.server.set(status_age=age)
        bench.server.order("not_listed", 1)
        backend = bench.server.backend(deploy="never", status_age_s=1.0)
        try:
            if found:
                assert largest_difference(run(bench, model, backend)[1], bench.right) <= 1e-6
            else:
                with pytest.raises(UserError, match=r"does not host"):
                    run(bench, model, backend)
        finally:
            bench.server.set(status_age=0.2)


def test_a_list_that_is_older_than_is_thought_is_said(bench: Bench, cold: Model) -> None:
    bench.server.set(status_age=30.0)
    try:
        with pytest.raises(UserError, match=r"0.3 s after it ran a job of it; .* raise backend.status_age_s"):
            run(bench, cold, bench.server.backend(status_age_s=0.3))
    finally:
        bench.server.set(status_age=0.2)


def test_a_model_that_cannot_be_brought_up_is_one_line_with_the_reason(bench: Bench, cold: Model) -> None:
    bench.server.order("undeployable", 1)
    with pytest.raises(UserError, match=r"base: .* could not deploy .*: CANT_ACCOMMODATE: placed 0 of 1") as caught:
        run(bench, cold, bench.server.backend())
    assert "\n" not in str(caught.value)
    unknown = named(bench.server.cold[0])
    unknown.envoy.repo_id = "someone/else"
    with pytest.raises(UserError, match=r"could not deploy 'someone/else': 404 .* Repository Not Found") as caught:
        run(bench, unknown, bench.server.backend())
    assert "Traceback" not in str(caught.value)


def test_it_may_take_only_so_long_and_goes_on_there(bench: Bench, cold: Model) -> None:
    bench.server.order("slow_deploy", 1, 1.5)
    with pytest.raises(UserError, match=r"backend.deploy_timeout_s: .* in 0.3 s .[A-Z]+.; it goes on on the"):
        run(bench, cold, bench.server.backend(deploy_timeout_s=0.3))
    runner, results = run(bench, cold, bench.server.backend())
    assert largest_difference(results, bench.right) <= 1e-6
    assert runner.cost.deploying_s > 0


def test_a_budget_of_no_jobs_brings_nothing_up(bench: Bench, cold: Model) -> None:
    before = bench.server.counts()["posts"]
    with pytest.raises(UserError, match=r"backend.max_jobs"):
        run(bench, cold, bench.server.backend(max_jobs=0))
    assert bench.server.counts()["posts"] == before
