"""Completeness: laws, and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.completeness.method import random_sets
from entitrack.methods.completeness.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.methods.faithfulness.settings import Settings as FaithfulnessSettings
from entitrack.methods.outcomes import measured
from tests.methods import hand_made
from tests.methods.test_faithfulness import with_circuit


def test_run(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    """Removing nothing is faithfulness; rows are nothing, the groups, and the random sets together."""
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = run_method("completeness", experiment, Settings(random_sets=4, mean_count=42, metric="probability"))
    other = FaithfulnessSettings(
        models=["base"], ablations=["mean"], random_circuits=0, mean_count=42, metric="probability"
    )
    alone = run_method("faithfulness", experiment, other)
    for name in ("probability", "logit_difference", "recovered"):
        theirs = alone[name].at(ablation="mean")
        for whose in ("circuit", "model"):
            ours = result[name].at(rest_of=whose, set="nothing").values
            torch.testing.assert_close(ours, theirs.at(model="base", circuit=whose).values, atol=1e-3, rtol=1e-4)
    sets = result.facts["sets"]
    assert [one["name"] for one in sets[:5]] == ["nothing", *(group.name for group in golden_circuit.groups)]
    assert [one["heads"] for one in sets[:5]] == [0, *(len(group.heads) for group in golden_circuit.groups)]
    assert [one["kind"] for one in sets] == ["nothing", *["group"] * 4, *["random"] * 4]
    assert result["prediction"].values.shape == measured(result).values.shape == (2, 9, 42)
    assert set(result.words) == set(result["prediction"].values.unique().tolist())
    assert [len(table.rows) for table in result.tables] == [5, 3]
    assert hand_made.retold(result).tables == result.tables


def test_removing_a_group_leaves_the_circuit_of_the_others(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    first, *others = golden_circuit.groups
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = run_method("completeness", experiment, Settings(random_sets=0, mean_count=42))
    smaller = Circuit((Group(first.name, first.role, ()), *others))
    settings = FaithfulnessSettings(models=["base"], ablations=["mean"], random_circuits=0, mean_count=42)
    alone = run_method("faithfulness", with_circuit(golden_experiment, smaller, tmp_path), settings)
    left = result["recovered"].at(rest_of="circuit", set=first.name).values
    expected = alone["recovered"].at(ablation="mean", model="base", circuit="circuit").values
    torch.testing.assert_close(left, expected, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(left, result["recovered"].at(rest_of="circuit", set="nothing").values, atol=1e-2)


def test_random_sets_are_of_the_circuit(golden_circuit: Circuit) -> None:
    sets = random_sets(golden_circuit, 200, 0.5, seed=3)
    assert [one.name for one in sets] == [f"random {number}" for number in range(1, 201)]
    sizes = []
    for one in sets:
        for group in one.groups:
            assert set(group.heads) <= set(golden_circuit.group(group.name).heads)
        sizes.append(sum(len(group.heads) for group in one.groups))
    assert min(sizes) > 0
    assert abs(sum(sizes) / len(sizes) - golden_circuit.size / 2) < 0.5
    assert sets == random_sets(golden_circuit, 200, 0.5, seed=3)


SETS = [
    {"name": "nothing", "kind": "nothing", "heads": 0},
    {"name": "readers", "kind": "group", "heads": 3},
    {"name": "random 1", "kind": "random", "heads": 2},
    {"name": "random 2", "kind": "random", "heads": 1},
]
PROBABILITY = [
    [[0.8, 0.8, 1.0, 1.0], [0.2, 0.2, 0.4, 0.4], [0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1]],
    [[0.6, 0.6, 0.8, 0.8], [0.3, 0.5, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2]],
]
"""On four prompts: of the model without each set, and of the circuit."""


def result(count: int = 4) -> Result:
    """Of the first sets."""
    values = [of_one[:count] for of_one in PROBABILITY]
    names = [str(one["name"]) for one in SETS[:count]]
    measurement = hand_made.measured(
        values, "rest_of set", hand_made.prompts(4), rest_of=("model", "circuit"), set=names
    )
    facts = {"model": "a", "metric": "probability", "quirks": [], "sets": SETS[:count]}
    return hand_made.laid_out("completeness", facts, {"probability": measurement})


def test_tables_show_what_was_measured() -> None:
    main, spread = result().tables
    assert main.title == "Completeness in a; F is probability"
    assert main.columns == ("K", "heads", "F(M\\K) [95 %]", "F(C\\K) [95 %]", "F(M\\K) - F(C\\K) [95 %]", "n")
    assert hand_made.rows(main) == [["nothing", 0, 0.9, 0.7, 0.2, 4], ["readers", 3, 0.3, 0.45, -0.15, 4]]
    assert spread.title == "2 random sets K"
    assert spread.columns == ("", "mean", "deviation", "least", "most")
    assert hand_made.rows(spread) == [
        ["F(M\\K)", 0.3, 0.2, 0.1, 0.5],
        ["F(C\\K)", 0.2, 0.0, 0.2, 0.2],
        ["|F(M\\K) - F(C\\K)|", 0.2, 0.1, 0.1, 0.3],
    ]
    assert result(2).tables == (main,)


def test_the_figure_draws_every_set() -> None:
    (panel,) = hand_made.plots(result())
    assert [line.direction for line in panel.lines] == ["diagonal"]
    random, *sets = panel.curves
    assert hand_made.places(random) == [pytest.approx((0.5, 0.2)), pytest.approx((0.1, 0.2))]
    assert [curve.label for curve in sets] == ["nothing removed", "without readers"]
    assert [hand_made.places(curve)[0] for curve in sets] == [pytest.approx((0.9, 0.7)), pytest.approx((0.3, 0.45))]
    assert len({curve.hue for curve in panel.curves}) == 3
