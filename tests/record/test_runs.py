"""Finished runs: listed, compared, and the newest of a kind; on results made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entitrack import runs as door
from entitrack.core.result import Result
from entitrack.methods import method_names
from tests.methods import hand_made

FACTS: dict[str, Any] = {
    "base": "llama", "family_base": "llama", "form": "output", "components": ["z"], "masks": None, "quirks": [],
    "heads": {"full circuit": 3},
}  # fmt: skip


def result(right: int, donor: str = "float", seed: int = 0, date: str = "2026-01-01T10:00:00") -> Result:
    """CMAP on 40 prompts, of which the base has 10 and the donor 40, and `right` with the donor's heads."""
    rows = [[number < count for number in range(40)] for count in (10, 40, right)]
    on = hand_made.prompts(40)
    correct = hand_made.measured(rows, "model", on, model=("base", "donor", "full circuit"))
    made = hand_made.laid_out("cmap", {**FACTS, "donor": donor}, {"correct": correct})
    config = {"seed": seed, "model": {"name": "sparse"}, "task": {"name": "boxes"}}
    return replace(made, provenance={"config": config, "date": date})


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    result(12).save(tmp_path / "outputs" / "one")
    result(38, seed=1, date="2026-03-01T10:00:00").save(tmp_path / "outputs" / "two")
    result(20, "goat", date="2026-02-01T10:00:00").save(tmp_path / "outputs" / "deep" / "three")
    return tmp_path / "outputs"


def test_runs_are_listed_newest_first(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main(["list", "--folder", str(outputs)]) == 0
    shown = capsys.readouterr().out
    assert "3 runs" in shown
    places = [shown.index(date) for date in ("2026-03-01", "2026-02-01", "2026-01-01")]
    assert places == sorted(places)
    assert door.main(["list", "--folder", str(outputs), "--donor", "goat"]) == 0
    assert "1 runs" in capsys.readouterr().out


def test_the_newest_of_a_kind_is_named_for_a_command(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main(["newest", "cmap", "--folder", str(outputs)]) == 0
    assert capsys.readouterr().out == f"{outputs / 'two'}\n"
    assert door.main(["newest", "cmap", "--folder", str(outputs), "--donor", "goat"]) == 0
    assert capsys.readouterr().out == f"{outputs / 'deep' / 'three'}\n"
    assert door.main(["newest", "dcm", "--folder", str(outputs)]) == 2
    assert "no finished run of 'dcm'" in capsys.readouterr().err


def test_two_runs_differ_in_settings_and_in_numbers_beyond_their_intervals(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert door.main(["compare", str(outputs / "one"), str(outputs / "two")]) == 0
    shown = capsys.readouterr().out
    assert "config.seed" in shown
    apart = shown.split("Numbers that differ")[1].split("Second minus")[0]
    assert "base with donor's full circuit" in apart
    assert "llama (base)" not in apart


def test_numbers_whose_intervals_overlap_are_not_apart() -> None:
    assert list(door.far_apart(result(20), result(21))) == []
    (accuracy, gain) = door.far_apart(result(12), result(38))
    assert [cell for cell in accuracy[1:3]] == ["base with donor's full circuit", "accuracy"]
    assert gain[2] == "minus base"


def test_help_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["list"], ["compare"], ["newest"]):
        with pytest.raises(SystemExit) as left:
            door.main([*words, "--help"])
        assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(method in shown for method in method_names())
