"""Faithfulness: laws of means, metrics, random circuits and ratios."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from entitrack.backends import Local, Runner
from entitrack.circuits import Circuit, Group
from entitrack.errors import UserError
from entitrack.methods import faithfulness
from entitrack.methods.ablated import mean_z, prepare
from entitrack.methods.ablation import Ablation, AblationSettings, Metric
from entitrack.methods.experiment import Experiment
from entitrack.store import Store
from tests.golden_prompts import GoldenTask

ROLES = ("last", "query_label", "prev_query_label")


def with_circuit(experiment: Experiment, circuit: Circuit, folder: Path) -> Experiment:
    circuit.write(folder / "circuit.json")
    return dataclasses.replace(experiment, circuit_name=str(folder / "circuit.json"))


@pytest.mark.parametrize("ablation", Ablation)
@pytest.mark.parametrize("metric", Metric)
def test_every_metric_with_every_ablation(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path, ablation: Ablation, metric: Metric
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = faithfulness.Settings(
        models=["base"], random_circuits=3, mean_count=42, ablation=ablation.value, metric=metric.value
    )
    result = faithfulness.run(experiment, settings)
    found = result.found["base"]
    assert found.circuit.shape == found.model.shape == found.roles.shape == (42,)
    assert found.random.shape == (3, 42)
    if metric is Metric.RECOVERED:
        assert (found.empty == 0).all()
    assert len(result.tables) == 2
    assert result.arrays["base.random"].shape == (3,)


def test_the_base_and_its_twin_are_equally_faithful(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = faithfulness.Settings(models=["base", "twin"], random_circuits=0, mean_count=42, metric="probability")
    result = faithfulness.run(experiment, settings)
    assert torch.equal(result.found["base"].circuit, result.found["twin"].circuit)
    assert len(result.tables) == 1


def test_results_do_not_depend_on_batches_or_sessions(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = faithfulness.Settings(models=["base"], random_circuits=5, mean_count=42, metric="logit_difference")
    whole = faithfulness.run(experiment, settings).found["base"]
    cut = dataclasses.replace(settings, circuits_per_session=3, chunk_tokens=50)
    again = faithfulness.run(dataclasses.replace(experiment, batch_size=13), cut).found["base"]
    for part in ("circuit", "model", "roles", "empty", "random"):
        torch.testing.assert_close(getattr(again, part), getattr(whole, part), atol=1e-3, rtol=1e-4)


def test_means_are_computed_once(golden_experiment: Experiment, tmp_path: Path) -> None:
    runner = Runner(Local(), Store(tmp_path))
    experiment = dataclasses.replace(golden_experiment, runner=runner)
    first = mean_z(experiment, experiment.base(), 42, 54)
    units = runner.cost.units
    assert torch.equal(mean_z(experiment, experiment.base(), 42, 54), first)
    assert (runner.cost.units, runner.cost.reused) == (units, units)
    other = mean_z(dataclasses.replace(experiment, batch_size=42), experiment.base(), 42, 54)
    torch.testing.assert_close(other, first, atol=1e-6, rtol=1e-5)


def test_random_circuits_have_the_shape_of_the_circuit() -> None:
    live = torch.zeros(3, 4, 6, dtype=torch.bool)
    live[0, 1, :3] = live[2, 3, :] = live[2, 0, 0] = True
    drawn = faithfulness.random_circuits(live, 50, seed=1)
    assert (drawn.sum((2, 3)) == live.sum((1, 2))).all()
    assert torch.equal(drawn, faithfulness.random_circuits(live, 50, seed=1))
    assert len(drawn.flatten(1).unique(dim=0)) > 40
    published = faithfulness.random_circuits(live, 200, seed=1, replace=True)
    assert (published.sum((2, 3)) <= live.sum((1, 2))).all()
    assert (published.sum((2, 3))[:, 2] < 7).any()


def test_roles_are_ordered_by_position_and_prompts_of_several_lengths_refused(golden_experiment: Experiment) -> None:
    settings = AblationSettings(ablation="zero")
    prompts = golden_experiment.task.prompts()
    ablated = prepare(golden_experiment, golden_experiment.base(), ROLES, settings, prompts)
    assert ablated.roles == ("prev_query_label", "query_label", "last")
    task = golden_experiment.task
    assert isinstance(task, GoldenTask)
    shorter = dataclasses.replace(task, boxes=5).prompts()
    with pytest.raises(UserError, match="one length"):
        prepare(golden_experiment, golden_experiment.base(), ROLES, settings, [*prompts, *shorter])
    with pytest.raises(UserError, match="zero"):
        prepare(golden_experiment, golden_experiment.base(), ROLES, AblationSettings(ablation="none"), prompts)


def test_a_circuit_with_no_heads_is_the_empty_one(golden_experiment: Experiment, tmp_path: Path) -> None:
    nothing = Circuit(tuple(Group(role, role, ()) for role in ROLES))
    experiment = with_circuit(golden_experiment, nothing, tmp_path)
    settings = faithfulness.Settings(models=["base"], random_circuits=0, mean_count=42, metric="probability")
    found = faithfulness.run(experiment, settings).found["base"]
    assert torch.equal(found.circuit, found.empty)
