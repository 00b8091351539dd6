"""The steps of a study: read, wired and checked before anything is run; what is wrong names the step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entitrack.cli.command_line import Composer, Job, composer
from entitrack.cli.flags import parse
from entitrack.cli.steps import PlannedStep, plan, read_steps, step_words
from entitrack.core.errors import UserError
from entitrack.methods import method_names, settings_of
from tests.conftest import Launch

CIRCUIT = "method=path_patching"


@pytest.fixture
def jobs() -> Iterator[Composer]:
    with composer(parse([])) as opened:
        yield opened


def planned(jobs: Composer, *words: str) -> list[PlannedStep]:
    job = Job(words)
    composed = jobs.compose(job)
    return plan(jobs, job, composed, composed.folder())


def test_steps_are_in_order_and_a_null_one_is_left_out() -> None:
    steps = read_steps({"b": CIRCUIT, "no": None, "a": "method=cmap circuit=@b/circuit.json 'method.groups=[x y]'"})
    assert [step.name for step in steps] == ["b", "a"]
    assert steps[1].words == ("method=cmap", "circuit=@b/circuit.json", "method.groups=[x y]")
    assert (steps[0].reads, steps[1].reads) == ((), (("b", "circuit.json"),))


def test_an_earlier_step_is_named_where_a_value_begins() -> None:
    (_, step) = read_steps({"a": CIRCUIT, "b": "x=@a/circuit.json y=[@a/circuit.json,@a/circuit.json] z=hf@b w=p/@a/q"})
    assert step.reads == (("a", "circuit.json"),) * 3
    words = step_words(step, [], Path("/elsewhere/my study"))
    file = "'/elsewhere/my study/a/circuit.json'"
    assert words == (f"x={file}", f"y=[{file},{file}]", "z=hf@b", "w=p/@a/q", "study=null")


def test_a_folder_below_is_written_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    step = read_steps({"a": CIRCUIT, "b": "circuit=@a/circuit.json"})[1]
    assert step_words(step, [], tmp_path / "out")[0] == "circuit=out/a/circuit.json"


def test_words_of_the_command_win_and_experiments_are_composed_upon_each_other() -> None:
    (step,) = read_steps({"a": "experiment=mine method=cmap task.count=5 seed=1"})
    words = step_words(step, ["experiment=paper", "task.count=9"], Path("out"))
    assert words == ("experiment=[paper,mine]", "method=cmap", "seed=1", "task.count=9", "study=null")


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ({}, "^study: has no steps; write study.NAME="),
        ({"a": None}, "^study: has no steps"),
        (3, "^study: 3 is not a section"),
        ({"a": 3}, "^study.a: 3 is not the words of a command, such as 'method=cmap'$"),
        ({"a/b": CIRCUIT}, "^study.a/b: is no name of a folder"),
        ({"..": CIRCUIT}, r"^study\.\.\.: is no name of a folder"),
        ({"a": "method='cmap"}, r"^study.a: cannot be read \(No closing quotation\)"),
        ({"a": "cmap"}, "^study.a: 'cmap' is not KEY=VALUE$"),
        ({"a": "hydra.run.dir=x"}, "^study.a: hydra.run.dir is the whole study's, and no step's$"),
        ({"a": "study.b=x"}, "^study.a: study.b is the whole study's"),
        ({"a": "circuit=@b/circuit.json", "b": CIRCUIT}, "^study.a: reads @b, which is no step before it$"),
        ({"b": CIRCUIT, "a": "circuit=@bb/circuit.json"}, "^study.a: reads @bb, .*; available: b$"),
        ({"b": CIRCUIT, "a": "circuit=@b"}, "^study.a: names no file of @b; write @b/circuit.json$"),
    ],
)
def test_a_step_that_is_none_is_named(study: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_steps(study)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ('study.a="method=nope"', r"^study\.a: method: there is no method 'nope'; available: ablation"),
        ('study.a="method=cmap donor=nope"', r"^study\.a: donor: family 'sparse' has no member 'nope'"),
        ('study.a="method=evaluate method.boxs=[2]"', r"^study\.a: method\.boxs: unknown key"),
        ("method=cmap", "^method: the steps of a study have methods of their own"),
    ],
)
def test_every_step_is_checked(jobs: Composer, words: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        planned(jobs, 'study.first="method=evaluate"', words)


def test_only_what_a_method_leaves_can_be_read(jobs: Composer) -> None:
    with pytest.raises(UserError, match=r"^study\.b: reads 'masks\.json' of @a, .* does not leave it; available: circ"):
        planned(jobs, f'study.a="{CIRCUIT}"', 'study.b="method=activation_patching method.masks=@a/masks.json"')


def test_what_is_set_for_all_is_for_the_steps_that_use_it(jobs: Composer) -> None:
    study = ('study.a="method=evaluate"', 'study.b="method=cmap"')
    first, second = planned(jobs, *study, "donor=goat", "circuit=goat", "task.count=28", "compat=paper")
    assert (first.config.donor, first.config.circuit, first.config.quirks) == ("float", None, frozenset())
    assert (second.config.donor, second.config.circuit, bool(second.config.quirks)) == ("goat", "goat", True)
    assert [len(step.config.task.prompts()) for step in (first, second)] == [28, 28]
    assert first.folder.parts[-4:-2] == ("outputs", "study")
    assert first.folder.parent == second.folder.parent
    assert [step.folder.name for step in (first, second)] == ["a", "b"]
    assert first.config.plain["study"] is None


def test_the_paper_has_every_method(jobs: Composer) -> None:
    """But for those that compare tasks."""
    steps = planned(jobs, "experiment=paper")
    assert {step.config.method for step in steps} | {"binding", "transfer"} == set(method_names())
    read = {name for step in steps for name, _ in step.step.reads}
    assert read == {"circuit", "stability", "dcm"}
    about = [step.config.circuit for step in steps if settings_of(step.config.method).needs_circuit]
    assert set(about) == {str(steps[0].folder.parent.relative_to(Path.cwd()) / "circuit" / "circuit.json")}


@pytest.mark.parametrize(("family", "base"), [("smollm2", "instruct"), ("gemma3-270m", "gemma")])
def test_the_study_of_real_models_asks_base_and_donor(jobs: Composer, family: str, base: str) -> None:
    """About the donor's circuit, in a phrasing that they can do something with."""
    steps = {step.step.name: step for step in planned(jobs, "experiment=real_study", f"model={family}")}
    assert {step.config.family.name for step in steps.values()} == {family}
    assert {step.config.donor for step in steps.values()} == {"arithmetic"}
    assert steps["circuit"].config.settings.model == "arithmetic"
    assert steps["faithfulness"].config.settings.models == [base, "arithmetic"]
    assert {step.config.task.phrasing for step in steps.values()} == {"label_first"}  # type: ignore[attr-defined]
    on = {step.config.circuit for step in steps.values() if settings_of(step.config.method).needs_circuit}
    assert len(on) == 1


def test_help_tells_the_steps(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("experiment=paper", "--help") == 0
    told = capsys.readouterr().out
    assert "  cmap_map: method=cmap_map\n" in told
    assert "method.groups" not in told
