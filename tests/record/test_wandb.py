"""What W&B is given: every number of a result, under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entitrack.core.circuits import Circuit, Group
from entitrack.core.confidential import Keys
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Table
from entitrack.record import tracking, wandb_process
from entitrack.record.settings import TrackingSettings
from entitrack.record.wandb_artifacts import artifacts as artifacts_of
from tests.methods import hand_made
from tests.record import offline_run

MAIN = Table(
    "main",
    ("model", "heads", "accuracy [95 %]", "F(C\\K)", "note"),
    (("base", 3, Estimate(0.25, 0.125, 0.5, 8), 1.5, "x"), ("donor", 4, Estimate(0.75, 0.5, 1.0, 8), None, "y")),
)
OTHER = Table("other", ("head", "score"), (("0.1", -0.5),))
COMMAND = "entitrack method=cmap"


def some_result() -> Result:
    losses = hand_made.measured([[4.0, 3.0]], "mask step", mask=("a",), step=("0", "2"))
    task = {"name": "boxes", "seed": 3}
    config = {"seed": 5, "compat": "paper", "method": {"name": "cmap"}, "model": {"name": "few"}, "task": task}
    used: dict[str, Any] = {"config": config, "command": COMMAND, "date": "today", "models": {"llama": {}, "float": {}}}
    used |= {"prompts": {"count": 8}, "circuit": [USED]}
    notes = ("read this",)
    made = {"circuit": CIRCUIT}
    return Result("cmap", {}, {"loss": losses}, made, tables=(MAIN, OTHER), notes=notes, provenance=used)


CIRCUIT = Circuit((Group("first", "last", ((1, 2),)),), {"model": "llama", "seed": 1})
USED = {"file": "some/circuit.json", "model": "llama", "digest": "x", "groups": CIRCUIT.plain_groups()}
METRICS = {
    "base/accuracy": 0.25,
    "base/accuracy_low": 0.125,
    "base/accuracy_high": 0.5,
    "base/F(C\\K)": 1.5,
    "donor/accuracy": 0.75,
    "donor/accuracy_low": 0.5,
    "donor/accuracy_high": 1.0,
}


def logged(folder: Path) -> wandb_process.Logged:
    return tracking.logged(some_result(), TrackingSettings(mode="online", project="mine"), folder)


def test_metrics_are_the_numbers_of_the_main_table_by_row_and_column() -> None:
    """Ends of intervals beside their values; whole numbers are counts of something else."""
    assert tracking.metrics(MAIN) == METRICS


def test_members_are_called_what_they_are_to_the_run() -> None:
    rows = (("llama (base)", 0.5), ("float (donor)", 1.0), ("group (of heads)", 0.25))
    assert tracking.metrics(Table("t", ("model", "a"), rows)) == {
        "base/a": 0.5,
        "donor/a": 1.0,
        "group (of heads)/a": 0.25,
    }


def test_rows_of_one_name_are_told_apart() -> None:
    rows = (("first", "last", 1, -0.5, "3.1"), ("first", "last", 2, -0.25, "2.0"), ("other", "last", 1, -0.1, "1.1"))
    expected = {"first/last/1/score": -0.5, "first/last/2/score": -0.25, "other/last/1/score": -0.1}
    assert tracking.metrics(Table("t", ("group", "role", "rank", "score", "head"), rows)) == expected


def test_numbers_that_are_none_are_left_out() -> None:
    rows = (("a", float("nan"), Estimate(0.5, float("nan"), float("nan"), 3)),)
    assert tracking.metrics(Table("t", ("x", "y", "z"), rows)) == {"a/z": 0.5}


def test_all_of_a_result_is_logged(tmp_path: Path) -> None:
    given = logged(tmp_path)
    assert json.loads(json.dumps(given)) == given
    assert {name: given[name] for name in ("project", "mode", "folder", "job_type", "figure")} == {  # type: ignore[literal-required]
        "project": "mine",
        "mode": "online",
        "folder": str(tmp_path),
        "job_type": "cmap",
        "figure": None,
    }
    assert given["config"] == {**some_result().provenance["config"], "command": COMMAND}
    assert given["name"] == "cmap few (llama, float) boxes n8 seed 3"
    assert given["group"] == "few boxes"
    assert given["tags"] == ["cmap", "few", "boxes", "llama", "float", "compat=paper"]
    assert given["notes"] == f"{COMMAND}\nread this"
    assert given["points"] == [{"loss/a": 4.0}, {}, {"loss/a": 3.0}]
    assert given["metrics"] == METRICS
    main, other = given["tables"]
    assert main["columns"] == list(MAIN.columns)
    assert main["data"] == [["base", 3, ".250 [.125, .500]", 1.5, "x"], ["donor", 4, ".750 [.500, 1.000]", None, "y"]]
    assert other == {"columns": ["head", "score"], "data": [["0.1", -0.5]]}


def test_group_and_tags_may_be_one_s_own(tmp_path: Path) -> None:
    given = tracking.logged(some_result(), TrackingSettings(group="mine", tags=["few", "t" * 99]), tmp_path)
    assert given["group"] == "mine"
    assert given["tags"][-2:] == ["compat=paper", "t" * 64]


def test_what_is_taken_and_left_are_artifacts(tmp_path: Path) -> None:
    """The circuit that one run leaves and another takes has one name and one content."""
    for name in ("result.json", "circuit.json", "figure.png"):
        (tmp_path / name).write_text("x")
    taken, left, whole = artifacts_of(some_result(), tmp_path)
    assert (taken["used"], left["used"], whole["used"]) == (True, False, False)
    assert {**taken, "used": None} == {**left, "used": None}
    assert (taken["name"], taken["type"]) == ("circuit-llama", "circuit")
    assert json.loads(taken["texts"]["circuit.json"]) == [{"name": "first", "role": "last", "heads": [[1, 2]]}]
    assert (whole["name"], whole["type"], whole["metadata"]) == ("cmap-few", "result", {"command": COMMAND})
    assert whole["files"] == {name: str(tmp_path / name) for name in ("result.json", "circuit.json")}


def test_the_graph_of_artifacts_is_in_the_offline_run(tmp_path: Path) -> None:
    """Read back from the files, which are all in the run's folder."""
    folder, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    some_result().save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        assert tracking.record(some_result(), TrackingSettings(), folder, Keys()) is None
    logged_again = list(offline_run.records(folder))
    (run,) = [content for kind, content in logged_again if kind == "run"]
    assert (run.display_name, run.run_group, run.notes) == ("cmap few (llama, float) boxes n8 seed 3", "few boxes",
                                                            f"{COMMAND}\nread this")  # fmt: skip
    made = [content for kind, content in logged_again if kind == "artifact" and content.type != "run_table"]
    assert [(one.name, one.type, one.use_after_commit) for one in made] == [
        ("circuit-llama", "circuit", True), ("circuit-llama", "circuit", False), ("cmap-few", "result", False)
    ]  # fmt: skip
    assert made[0].digest == made[1].digest
    assert {entry.path for entry in made[2].manifest.contents} == {"result.json", "arrays.safetensors", "circuit.json"}
    paths = [Path(e.local_path) for kind, one in logged_again if kind == "artifact" for e in one.manifest.contents]
    assert len(paths) >= 5
    assert all(path.is_relative_to(folder) and path.is_file() for path in paths), "nothing is in the home folder"
    assert not list(home.rglob("*.json"))


def test_a_figure_is_logged_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_bytes(b"")
    assert logged(tmp_path)["figure"] == str(tmp_path / "figure.png")
