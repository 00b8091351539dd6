"""The door: what a run prints, leaves behind, and says when it is asked for the impossible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import Launch, about_circuits


@pytest.mark.parametrize("key", ["output_dir", "store"])
def test_a_folder_that_cannot_be_made_is_named(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    (tmp_path / "file").write_text("")
    overrides = ["method=cmap", "tracking=disabled", f"{key}={tmp_path / 'file' / 'within'}"]
    assert launch(*overrides, *golden_overrides) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"entitrack: cannot use '{tmp_path / 'file'}")
    assert "Not a directory" in error


def only_run(folder: Path, method: str) -> Path:
    (found,) = [path.parent for path in (folder / "outputs" / method).rglob("result.json")]
    return found


def test_cmap_leaves_table_record_and_figure(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch("method=cmap", "method.controls=0", "tracking=disabled", *golden_overrides) == 0
    printed = capsys.readouterr().out
    for row in ("llama (base)", "float (donor)", "full circuit", "value_fetcher", "struct_reader"):
        assert row in printed
    folder = only_run(tmp_path, "cmap")
    record = json.loads((folder / "result.json").read_text())
    rows = {row[0]: row for row in record["tables"][0]["rows"]}
    right = load_file(folder / "arrays.safetensors")
    accuracy = rows["llama (base)"][2]
    assert accuracy["value"] == pytest.approx(right["correct"][0].float().mean().item())
    assert accuracy["low"] == accuracy["high"] == {"$number": "nan"}  # 42 prompts in 6 contexts
    assert accuracy["without"] == "too few contexts"
    assert accuracy["n"] == 42
    assert record["cost"]["units"] == 4
    assert (folder / "figure.png").stat().st_size > 1000


def test_offline_recording_needs_no_account(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    words = ["method=evaluate", "method.models=[llama]"]
    assert launch(*words, *about_circuits(golden_overrides, words)) == 0
    assert list(only_run(tmp_path, "evaluate").glob("wandb/offline-run-*/*.wandb"))


def test_path_patching_writes_a_circuit_that_cmap_reads(
    launch: Launch, golden_overrides: list[str], tmp_path: Path
) -> None:
    others = [word for word in golden_overrides if not word.startswith("circuit=")]
    assert launch("method=path_patching", "method.force=true", "tracking=disabled", *others) == 0
    found = only_run(tmp_path, "path_patching") / "circuit.json"
    assert launch("method=cmap", "tracking=disabled", f"circuit={found}", *others) == 0


def test_a_sweep_runs_every_donor(launch: Launch, golden_overrides: list[str], tmp_path: Path) -> None:
    overrides = [*golden_overrides, "tracking=disabled", "hydra.sweep.dir=swept"]
    assert launch("--multirun", "method=cmap", "donor=float,llama", "method.controls=2", *overrides) == 0
    assert len(list((tmp_path / "swept").rglob("result.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method=nope"], "method: there is no method 'nope'; available: "),
        (["donor=nope"], "donor: family 'golden' has no member 'nope'; available: llama, vicuna, goat, float"),
        (["method.nope=1"], "method.nope: unknown key; available: groups, "),
        (["method.groups=[nope]"], "method.groups.0: no group 'nope' in the circuit; available: value_fetcher"),
        (["task.path=none.jsonl"], "task.path: cannot read 'none.jsonl'"),
        (["circuit=nope"], "circuit: no file 'nope'"),
        (
            ["model.members.llama.path=nowhere/at-all"],
            "model.members.llama.path: 'nowhere/at-all' is not on this machine",
        ),
        (["model.dtype=int3"], "model.dtype: unknown dtype 'int3'; available: float32"),
        (["tracking=online"], "tracking: online recording needs an account"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    launch: Launch,
    golden_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    assert launch(*arguments[:-1], "method=cmap", "tracking=disabled", *golden_overrides, arguments[-1]) == 2
    complaint = capsys.readouterr().err.strip()
    assert complaint.startswith(f"entitrack: {message}")
    assert "\n" not in complaint


def test_a_head_that_does_not_exist_is_named(
    launch: Launch, golden_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text('{"groups": [{"name": "a", "role": "last", "heads": [[9, 0]]}]}')
    assert launch("method=cmap", *golden_overrides, f"circuit={tmp_path / 'bad.json'}") == 2
    assert "group 'a': no head [9, 0]; available: layers 0 to 3, heads 0 to 5" in capsys.readouterr().err
