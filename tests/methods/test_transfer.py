"""Circuits of one task on another: on its own task each does what faithfulness and CMAP say, and tables show it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import Settings as CmapSettings
from entitrack.methods.experiment import Experiment
from entitrack.methods.faithfulness.settings import Settings as FaithfulnessSettings
from entitrack.methods.transfer.settings import Settings
from entitrack.tasks.bindings import Bindings
from tests.methods import hand_made

SMALL: dict[str, Any] = {"controls": 2, "mean_count": 14, "force": True}
TWO: dict[str, Any] = {"circuits": {"one": "llama", "two": "float"}, "tasks": {"bindings": {"count": 20, "facts": 3}}}


@pytest.mark.slow
def test_on_its_own_task_it_is_faithfulness_and_cmap(tiny_experiment: Experiment) -> None:
    settings = Settings(models=["llama", "float"], **TWO, **SMALL)
    found = run_method("transfer", tiny_experiment, settings)
    for name, circuit in (("one", "llama"), ("two", "float")):
        alone = dataclasses.replace(tiny_experiment, circuit_name=circuit, donor="float")
        faithful = run_method(
            "faithfulness", alone, FaithfulnessSettings(ablations=["mean"], mean_count=14, random_circuits=0)
        )["correct"]
        for model in ("llama", "float"):
            mine = found["value.boxes"].at(model=model, circuit=name).values
            assert mine.equal(faithful.at(ablation="mean", model=model, circuit="circuit").values)
        moved = run_method("cmap", alone, CmapSettings(controls=0))["correct"]
        mine = found["correct.boxes"].at(donor="float", circuit=name).values
        assert mine.equal(moved.at(model="full circuit").values)
        for row in ("base", "donor"):
            mine = found["correct.boxes"].at(donor="float", circuit=row).values
            assert mine.equal(moved.at(model=row).values)
    prompts = found["value.bindings"].prompts
    assert prompts is not None
    expected = Bindings(count=20, facts=3, part="judge").prompts()
    assert prompts.texts == tuple(prompt.text for prompt in expected)
    assert found["random.bindings"].values.shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tasks": {"nope": {}}}, r"^method\.tasks\.nope: .*unknown task 'nope'"),
        ({"tasks": {"bindings": {"facts": 40}}}, r"^method\.tasks\.bindings: task\.facts: 40 facts do not"),
        ({"tasks": {"boxes": {}}}, r"^method\.tasks\.boxes: is the run's own task"),
        ({"circuits": {"a": "no.json"}}, r"^method\.circuits\.a: no file 'no\.json'"),
        ({"circuits": {"model": "llama"}}, r"nothing may be called 'model'"),
        ({"masks": {"a": "m.json"}}, r"^method\.masks\.a: there is no such circuit"),
    ],
)
def test_what_is_not_there_is_named(words: dict[str, Any], message: str, tiny_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=message):
        run_method("transfer", tiny_experiment, Settings(**{"circuits": {"one": "llama"}, **words}, **SMALL))


def test_a_role_that_a_task_does_not_have_is_named(tiny_experiment: Experiment, tmp_path: Any) -> None:
    Circuit((Group("a", "queried Box", ((0, 0),)),)).write(tmp_path / "c.json")
    settings = Settings(circuits={"mine": str(tmp_path / "c.json")}, tasks=TWO["tasks"], **SMALL)
    with pytest.raises(
        UserError, match=r"^circuit mine on task bindings, group 'a': the task has no role 'queried Box'"
    ):
        run_method("transfer", tiny_experiment, settings)


def result() -> Any:
    """A circuit of 3 heads, which does half of what the model does on the first task and nothing on the second."""
    prompts = hand_made.prompts(12)
    yes, no, half = [True] * 12, [False] * 12, [True, False] * 6
    measurements = {}
    for task, own in (("boxes", half), ("bindings", no)):
        rows: dict[str, Any] = {"model": ("base",), "circuit": ("model", "no heads", "mine")}
        measurements[f"value.{task}"] = hand_made.measured([[yes, no, own]], "model circuit", prompts, **rows)
        drawn: dict[str, Any] = {"model": ("base",), "circuit": ("mine",)}
        measurements[f"random.{task}"] = hand_made.measured([[[0.0, 0.5, 0.25]]], "model circuit draw", **drawn)
        moved: dict[str, Any] = {"donor": ("donor",), "circuit": ("base", "donor", "mine")}
        measurements[f"correct.{task}"] = hand_made.measured([[no, yes, own]], "donor circuit", prompts, **moved)
        heads: dict[str, Any] = {"donor": ("donor",), "circuit": ("mine",)}
        measurements[f"control.{task}"] = hand_made.measured([[[0.0, 1.0, 0.25]]], "donor circuit draw", **heads)
    facts = {"base": "base", "tasks": ["boxes", "bindings"], "circuits": {"mine": 3}, "ablation": "mean"}
    return hand_made.laid_out("transfer", facts | {"metric": "accuracy", "overlaps": ["boxes: seen"]}, measurements)


def test_tables_are_the_matrix_and_what_it_is_made_of() -> None:
    matrix, parts, gains, moved = map(hand_made.rows, result().tables)
    assert all(len(row) == len(table.columns) for table in result().tables for row in table.rows)
    assert matrix == [["base", "mine", 0.5, 0]]
    assert [row[:7] for row in parts] == [
        ["boxes", "base", "mine", 3, 1, 0.5, 0],
        ["bindings", "base", "mine", 3, 1, 0, 0],
    ]
    assert [row[7] for row in parts] == [0.25, 0.25]
    assert [row[9] for row in parts] == [0.5, 1]
    assert gains == [["donor", "mine", 0.5, 0]]
    assert [row[3:7] for row in moved] == [[0, 1, 0.5, 0.5], [0, 1, 0, 0]]
    assert [row[9] for row in moved] == [0.5, 1]
    assert "boxes: seen" in result().notes


def test_the_figure_has_a_cell_a_circuit_and_task() -> None:
    (panel,) = hand_made.maps(result())
    assert (panel.rows.entries, panel.columns.entries) == (("mine",), ("boxes", "bindings"))
    assert panel.values == ((0.5, 0.0),)
    assert "the circuit of mine does .500" in result().claim()
