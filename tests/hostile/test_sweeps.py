"""A sweep goes on when one of its jobs cannot, and says at the end which ones and why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from entitrack import run as door
from tests.conftest import Launch, about_circuits
from tests.hostile.trial import listing

SWEEP = (
    "--multirun",
    "method=cmap",
    "method.controls=0",
    "tracking=disabled",
    "hydra.sweep.dir=swept",
    "store=null",
)


def results(folder: Path) -> list[str]:
    """Numbers of the jobs that left a result."""
    return sorted(path.parent.name for path in (folder / "swept").rglob("result.json"))


@pytest.mark.parametrize(
    ("sweep", "whole", "failures"),
    [
        ("donor=nope,float", ["1"], ["job 0 (.*donor=nope.*): donor: family 'golden' has no member 'nope'"]),
        ("donor=float,nope,llama", ["0", "2"], ["job 1 (.*donor=nope.*): donor: "]),
        ("method=nope,cmap", ["1"], ["job 0 (.*): method: there is no method 'nope'"]),
        ("method.form=output,output2", ["0"], ["job 1 (.*): method.form: unknown form 'output2'"]),
        ("circuit=nope.json", [], ["job 0 (.*): circuit: no file 'nope.json'"]),
        ("+nope=1,2", [], ["job 0 (.*): nope: unknown key", "job 1 (.*): nope: unknown key"]),
        ("batch_size=21,0,x", ["0"], ["job 1 (.*): batch_size: 0 is not", "job 2 (.*): batch_size: 'x' is not"]),
        ("seed='${nope}',3", ["1"], ["job 0 (.*): seed: Interpolation key 'nope' not found"]),
        ("donor=choice(float,nope)", ["0"], ["job 1 (.*): donor: "]),
        ("donor='a,b',float", ["1"], ["job 0 (.*): donor: family 'golden' has no member 'a,b'"]),
    ],
)
def test_one_bad_job_stops_no_other(
    sweep: str,
    whole: list[str],
    failures: list[str],
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = golden_overrides
    if "circuit=" in sweep:
        words = [word for word in words if not word.startswith("circuit=")]
    before = listing(tmp_path)
    assert launch(*SWEEP, *words, sweep) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(failures) + 1, said
    for line, failure in zip(said, failures, strict=False):
        assert re.match("entitrack: " + failure.replace("(", r"\(", 1).replace("):", r"\):", 1), line), line
    assert said[-1] == f"entitrack: {len(failures)} of {len(failures) + len(whole)} jobs failed"
    assert results(tmp_path) == whole
    empty = [path for path in listing(tmp_path) - before if path.is_dir() and not any(path.iterdir())]
    assert empty == []
    assert (tmp_path / "swept").exists() == bool(whole)


def test_a_sweep_without_faults_says_nothing(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*SWEEP, *golden_overrides, "donor=float,llama") == 0
    assert capsys.readouterr().err == ""
    assert results(tmp_path) == ["0", "1"]


def test_jobs_of_one_sweep_share_a_time_and_not_a_folder(
    launch: Launch, golden_overrides: list[str], tmp_path: Path
) -> None:
    words = [word for word in SWEEP if "sweep.dir" not in word]
    assert launch(*words, *golden_overrides, "donor=float,llama") == 0
    folders = [path.parent for path in (tmp_path / "outputs" / "sweeps").rglob("result.json")]
    assert sorted(folder.name for folder in folders) == ["0", "1"]
    assert len({folder.parent for folder in folders}) == 1


def test_a_job_is_recorded_with_its_own_words(launch: Launch, golden_overrides: list[str], tmp_path: Path) -> None:
    assert launch(*SWEEP, *golden_overrides, "donor=float,llama") == 0
    for number, donor in enumerate(("float", "llama")):
        record = json.loads((tmp_path / "swept" / str(number) / "result.json").read_text())
        assert f"donor={donor}" in record["overrides"]
        assert "donor=float,llama" in record["command"]
        assert record["config"]["donor"] == donor


def test_a_word_that_no_job_can_read_is_one_line(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(tmp_path)
    assert launch(*SWEEP, *golden_overrides, "method.groups=[a") == 2
    assert capsys.readouterr().err.startswith("entitrack: method.groups: cannot be read")
    assert listing(tmp_path) == before


def test_a_fault_of_the_program_stops_no_other_job(
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute = door.execute

    def fail_for_float(config: object) -> object:
        if config.donor == "float":  # type: ignore[attr-defined]
            raise AssertionError("a fault\nof two lines")
        return execute(config)  # type: ignore[arg-type]

    monkeypatch.setattr(door, "execute", fail_for_float)
    assert launch(*SWEEP, *golden_overrides, "donor=float,llama") == 1
    lines = capsys.readouterr().err.splitlines()
    assert "AssertionError: a fault of two lines" in lines[-2]
    assert any(line.startswith("Traceback") for line in lines)
    assert results(tmp_path) == ["1"]


def test_a_hand_that_stops_a_sweep_stops_all_of_it(
    launch: Launch,
    golden_overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(config: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(door, "execute", stop)
    assert launch(*SWEEP, *golden_overrides, "donor=nope,float,llama") == 130
    failed, interrupted = capsys.readouterr().err.splitlines()
    assert failed.startswith("entitrack: job 0 (")
    assert interrupted.startswith("entitrack: interrupted; ")
    assert results(tmp_path) == []


def test_members_of_a_family_of_ones_own_are_swept(
    launch: Launch, golden_overrides: list[str], golden_folder: Path, tmp_path: Path
) -> None:
    family = (
        "name: mine\nbase: my base\nmembers:\n"
        f"  my base: {{path: {golden_folder / 'base'}}}\n"
        f"  sft-1.5: {{path: {golden_folder / 'donor'}}}\n"
        f"  '7': {{path: {golden_folder / 'donor'}}}\n"
    )
    (tmp_path / "my" / "model").mkdir(parents=True)
    (tmp_path / "my" / "model" / "mine.yaml").write_text(family)
    words = [word for word in golden_overrides if not word.startswith("model.")]
    own = ["--config-dir", "my", "model=mine", "model.device=cpu"]
    assert launch(*SWEEP, *own, *words, "donor=sft-1.5,7,'my base'") == 0
    assert results(tmp_path) == ["0", "1", "2"]
    evaluation = [*own, "tracking=disabled", "method=evaluate"]
    assert launch(*evaluation, *about_circuits(words, evaluation)) == 0
    searched = f"hydra.searchpath=[file://{tmp_path / 'my'}]"
    assert (
        launch(
            searched, "model=mine", "tracking=disabled", "model.device=cpu", *words, "donor='7'", "method.controls=0"
        )
        == 0
    )
