"""A study runs its steps in order, goes on where it was, and says of every step what came of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from entitrack import run as door
from entitrack.cli.config import RunConfig
from entitrack.cli.steps import PlannedStep, Step
from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.record import tracking
from entitrack.runtime.keys import code_digest
from entitrack.studies import SUMMARY, Outcome, failures, plan_line, run_steps, table
from tests.conftest import Launch
from tests.methods import hand_made

COST = {"units": 3, "reused": 2, "seconds": 1.25}


def made(name: str) -> Result:
    """What a step found."""
    correct = hand_made.measured([[True, False] * 6], "model", hand_made.prompts(12, {"query": [0] * 12}), model=("m",))
    facts: dict[str, Any] = {"facets": {}, "phrasings": []}
    used = {
        "cost": COST,
        "models": {"m": ""},
        "config": {"model": 1, "backend": 2, "name": name},
        "code": code_digest(),
    }
    return replace(hand_made.laid_out("evaluate", facts, {"correct": correct}), provenance=used)


def step(folder: Path, name: str, *reads: str) -> PlannedStep:
    words = ("method=evaluate", *(f"circuit=@{source}/circuit.json" for source in reads))
    config = Config({"model": 1, "backend": 2, "name": name}, object())
    told = Step(name, words, tuple((source, "circuit.json") for source in reads))
    return PlannedStep(told, words, object(), config, folder / name)  # type: ignore[arg-type]


def steps_of(folder: Path) -> list[PlannedStep]:
    """`b` reads what `a` finds, `c` what `b` does; `d` reads nothing."""
    return [step(folder, "a"), step(folder, "b", "a"), step(folder, "c", "b"), step(folder, "d")]


@dataclass(frozen=True)
class Config:
    """What a study looks at of a step's configuration."""

    plain: dict[str, Any]
    family: object
    method: str = "evaluate"


class Runs:
    """Runs steps, and remembers which."""

    def __init__(self, failing: str = "", stopping: str = "") -> None:
        self.ran: list[str] = []
        self.families: list[Any] = []
        self._failing, self._stopping = failing, stopping

    def __call__(self, step: PlannedStep) -> Result | str:
        name = step.step.name
        self.ran.append(name)
        self.families.append(step.config.family)
        if name == self._stopping:
            raise KeyboardInterrupt
        if name == self._failing:
            return "donor: cannot be"
        result = made(name)
        result.save(step.folder)
        return result


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def test_steps_run_in_order_on_one_family(tmp_path: Path) -> None:
    run = Runs()
    outcomes = run_steps(steps_of(tmp_path), tmp_path, "command", Keys({}), run)
    assert run.ran == ["a", "b", "c", "d"]
    assert states(outcomes) == ["done"] * 4
    assert len({id(family) for family in run.families}) == 1
    assert failures(outcomes) is None
    assert outcomes[0].said == "accuracy m .500 [.254, .746]"
    record = json.loads((tmp_path / SUMMARY).read_text())
    assert (record["format"], record["command"]) == (1, "command")
    assert [told["step"] for told in record["steps"]] == ["a", "b", "c", "d"]


def test_another_family_is_loaded_where_models_differ(tmp_path: Path) -> None:
    steps = steps_of(tmp_path)
    steps[2].config.plain["model"] = 7
    run = Runs()
    run_steps(steps, tmp_path, "", Keys({}), run)
    a, b, c, d = run.families
    assert a is b
    assert a is not c
    assert c is not d
    assert a is not d


def test_what_cannot_be_run_stops_those_that_read_it(tmp_path: Path) -> None:
    run = Runs(failing="b")
    outcomes = run_steps(steps_of(tmp_path), tmp_path, "", Keys({}), run)
    assert run.ran == ["a", "b", "d"]
    assert states(outcomes) == ["done", "failed", "left out", "done"]
    assert [outcome.said for outcome in outcomes[1:3]] == ["donor: cannot be", "reads what b would have found"]
    assert failures(outcomes) == "2 of 4 steps found nothing"


def test_a_study_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    steps = steps_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_steps(steps, tmp_path, "", Keys({}), Runs(stopping="c"))
    assert [told["step"] for told in json.loads((tmp_path / SUMMARY).read_text())["steps"]] == ["a", "b"]
    assert plan_line(steps, tmp_path) == f"4 steps (2 of them done before): a, b, c, d; into {tmp_path}"
    run = Runs()
    outcomes = run_steps(steps, tmp_path, "", Keys({}), run)
    assert run.ran == ["c", "d"]
    assert states(outcomes) == ["done before", "done before", "done", "done"]
    assert [outcome.units for outcome in outcomes] == [0, 0, 3, 3]
    assert outcomes[0].said == "accuracy m .500 [.254, .746]"


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "result.json").read_text())
    change(record)
    (folder / "result.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda record: record["config"].update(seed=1),
            r"/b: holds a result of another configuration \(seed\)",
        ),
        (lambda record: record.update(code="else"), "/b: holds a result of another version of the program"),
        (lambda record: record.pop("code"), "/b: holds a result of another version of the program"),
    ],
)
def test_what_was_done_otherwise_is_refused_before_anything_runs(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    steps = steps_of(tmp_path)
    run_steps(steps[:2], tmp_path, "", Keys({}), Runs())
    changed(steps[1].folder, change)
    run = Runs()
    with pytest.raises(UserError, match=says):
        run_steps(steps, tmp_path, "", Keys({}), run)
    assert run.ran == []


def test_a_result_made_from_something_earlier_is_not_taken(tmp_path: Path) -> None:
    steps = steps_of(tmp_path)
    run_steps(steps, tmp_path, "", Keys({}), Runs())
    shutil.rmtree(steps[0].folder)
    with pytest.raises(UserError, match="/b: holds a result that was made from an earlier a; remove it, or choose"):
        run_steps(steps, tmp_path, "", Keys({}), Runs())


def test_a_key_is_not_recorded(tmp_path: Path) -> None:
    (planned,) = steps_of(tmp_path)[:1]
    told = replace(planned, words=("backend.key=s3cret-of-mine", "method=evaluate"))
    run_steps([told], tmp_path, "", Keys({}), Runs())
    (recorded,) = json.loads((tmp_path / SUMMARY).read_text())["steps"]
    assert recorded["words"] == ["backend.key=***", "method=evaluate"]


def test_the_table_has_a_line_a_step() -> None:
    done = Outcome("a", "cmap", ("m",), "done", "gains", 3, 2, 1.25, ())
    before, failed = replace(done, step="b", state="done before"), replace(done, step="c", state="failed", said="why")
    assert table([done, before, failed]).rows == (
        ("a", "cmap", "gains", 3, 2, "1.2"),
        ("b", "cmap", "gains", None, None, "before"),
        ("c", "cmap", "failed: why", None, None, None),
    )


STUDY = (
    'study.accuracy="method=evaluate method.models=[llama]"',
    'study.found="method=path_patching method.force=true"',
    'study.moved="method=cmap method.controls=2 circuit=@found/circuit.json"',
    'study.masked="method=dcm method.steps=2 method.desiderata=[object_value] circuit=@found/circuit.json"',
    'study.patched="method=activation_patching method.desiderata=[object_value] method.masks=@masked/masks.json"',
)
SMALL = ("model=tiny", "task.count=28", "model.device=cpu", "tracking=disabled", "hydra.run.dir=all")


def test_a_study_is_one_command(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`masked` refuses a model that is right in too few contexts; the others are in their folders."""
    assert launch(*STUDY, *SMALL) == 1
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == f"5 steps: accuracy, found, moved, masked, patched; into {tmp_path / 'all'}"
    assert lines[-1] == f"  recorded in {tmp_path / 'all'}"
    assert printed.err.splitlines()[-1] == "entitrack: 2 of 5 steps found nothing"
    there = sorted(path.parent.name for path in (tmp_path / "all").glob("*/result.json"))
    assert there == ["accuracy", "found", "moved"]
    steps = json.loads((tmp_path / "all" / SUMMARY).read_text())["steps"]
    assert [told["state"] for told in steps] == ["done", "done", "done", "failed", "left out"]
    assert "there is no mechanism to look for" in steps[3]["said"]
    moved = json.loads((tmp_path / "all" / "moved" / "result.json").read_text())
    assert moved["config"]["circuit"] == "all/found/circuit.json"
    assert moved["overrides"][-1] == "study=null"
    forced = STUDY[3].replace("method.steps", "method.force=true method.steps")
    assert launch(*STUDY[:3], forced, "study.patched=null", *SMALL) == 0
    steps = json.loads((tmp_path / "all" / SUMMARY).read_text())["steps"]
    assert [told["state"] for told in steps] == ["done before"] * 3 + ["done"]


LOGS = """
import json, sys, time
told = json.load(sys.stdin)
time.sleep({pause})
name = told["folder"].rsplit("/", 1)[1]
open({path!r}, "a").write(name + "\\n")
sys.exit("out of ink" if name == {failing!r} else 0)
"""
"""What stands in for the process that logs in W&B: it takes a while, and may fail."""
LOGGED = ('study.first="method=desiderata"', 'study.second="method=desiderata seed=1"')


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Callable[[], list[str]]]:
    """Have something stand in for the process that logs; gives the steps that it has logged."""
    popen, path = subprocess.Popen, tmp_path / "logged"

    def stand_in(failing: str = "", pause: float = 0.0) -> Callable[[], list[str]]:
        def start(command: Any, **words: Any) -> Any:
            program = LOGS.format(path=str(path), failing=failing, pause=pause)
            ours = command[-1] == "entitrack.record.wandb_process"
            return popen([sys.executable, "-c", program] if ours else command, **words)

        monkeypatch.setattr(tracking.subprocess, "Popen", start)
        return lambda: path.read_text().split() if path.exists() else []

    return stand_in


@pytest.mark.parametrize("failing", ["first", "second"])
def test_every_step_is_logged_when_a_study_ends_and_what_could_not_be_is_a_warning(
    failing: str,
    logged: Callable[..., Callable[[], list[str]]],
    launch: Launch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = logged(failing, pause=0.5)
    assert launch(*LOGGED, "model=tiny", "task.count=14", "hydra.run.dir=all") == 0
    assert steps() == ["first", "second"]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    assert said.endswith(f"W&B has no record (out of ink); the result is in {tmp_path / 'all' / failing}")


def test_a_step_is_logged_while_the_next_one_runs(
    logged: Callable[..., Callable[[], list[str]]], launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is not waited for before the second begins; and it is logged though the second is interrupted."""
    steps, begun, execute = logged(pause=1.0), [], door.execute

    def stop_at_the_second(config: RunConfig) -> Any:
        begun.append(steps())
        if len(begun) == 2:
            raise KeyboardInterrupt
        return execute(config)

    monkeypatch.setattr(door, "execute", stop_at_the_second)
    assert launch(*LOGGED, "model=tiny", "task.count=14", "hydra.run.dir=all") == 130
    assert begun == [[], []]
    assert steps() == ["first"]
