"""Desiderata as a method: an example of each, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.desiderata.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.boxes.desiderata import DESIDERATA
from tests.conftest import Launch
from tests.methods import hand_made


def examples(experiment: Experiment, **settings: Any) -> Result:
    return run_method("desiderata", experiment, Settings(**settings))


def test_every_desideratum_has_an_example(tiny_experiment: Experiment) -> None:
    result = examples(tiny_experiment, prompt=9)
    clean = tiny_experiment.task.prompts()[9]
    assert [example["desideratum"] for example in result.facts["examples"]] == list(DESIDERATA)
    for example in result.facts["examples"]:
        assert (example["clean"], example["answer"]) == (clean.text, clean.answer)
        assert example["counterfactual"] != clean.text
        assert example["target"] != clean.answer
    positional = next(entry for entry in result.facts["examples"] if entry["desideratum"] == "positional")
    assert positional["meaning"].endswith(".")
    assert "\n" not in positional["meaning"]
    assert positional["target"] in clean.text


def test_the_table_has_four_lines_each() -> None:
    example = {
        "desideratum": "position",
        "meaning": "The place.",
        "clean": "Box A contains the",
        "answer": "book",
        "counterfactual": "Box B contains the",
        "target": "key",
    }
    result = hand_made.laid_out("desiderata", {"examples": [example]}, {})
    (table,) = result.tables
    assert table.columns == ("desideratum", "", "text")
    assert table.rows == (
        ("position", "meaning", "The place."),
        ("", "clean", "Box A contains the -> book"),
        ("", "counterfactual", "Box B contains the"),
        ("", "target", "key"),
    )
    assert result.figure() is None
    with pytest.raises(UserError, match="desiderata measures no such thing"):
        result.frame()


def test_a_prompt_that_is_not_there_is_named(tiny_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"method\.prompt: there is no prompt 42; available: 0 to 41"):
        examples(tiny_experiment, prompt=42)


def test_it_is_recorded_without_measurements(launch: Launch, tmp_path: Path) -> None:
    assert launch("method=desiderata", "tracking=disabled", "task.count=7", "method.desiderata=[positional]") == 0
    (record,) = (tmp_path / "outputs" / "desiderata").rglob("result.json")
    assert len(json.loads(record.read_text())["tables"][0]["rows"]) == 4
