"""CMAP: laws that hold for any models and any circuit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from entitrack.circuits import Circuit, Group
from entitrack.errors import UserError
from entitrack.methods import cmap
from entitrack.methods.experiment import Experiment

FORMS = [cmap.Settings(), cmap.Settings(form="input", components=["q", "kv", "qkv"])]


def with_circuit(experiment: Experiment, circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model: circuit)
    return experiment


@pytest.mark.parametrize("settings", FORMS, ids=["output", "input"])
def test_a_donor_equal_to_the_base_changes_no_answer(
    golden_experiment: Experiment,
    golden_circuit: Circuit,
    monkeypatch: pytest.MonkeyPatch,
    settings: cmap.Settings,
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    result = cmap.run(dataclasses.replace(experiment, donor="twin"), settings)
    for right in result.correct.values():
        assert torch.equal(right, result.correct["base"])


def test_an_empty_group_leaves_the_base(golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuit((Group("nothing", "last", ()),))
    result = cmap.run(with_circuit(golden_experiment, circuit, monkeypatch), cmap.Settings())
    assert torch.equal(result.correct["nothing"], result.correct["base"])
    assert any("nothing has no heads" in note for note in result.notes)


def test_every_head_everywhere_it_matters_moves_the_answers(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all heads at the last token the base answers nearly as the donor: only its MLPs there are its own."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    circuit = Circuit((Group("everything", "last", heads),))
    result = cmap.run(with_circuit(golden_experiment, circuit, monkeypatch), cmap.Settings())
    agree = {name: (result.correct["everything"] == result.correct[name]).float().mean() for name in ("donor", "base")}
    assert agree["donor"] >= 0.85


@pytest.mark.parametrize("batch_size", [5, 42])
def test_the_size_of_batches_does_not_matter(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    whole = cmap.run(experiment, cmap.Settings())
    other = cmap.run(dataclasses.replace(experiment, batch_size=batch_size, padding="left"), cmap.Settings())
    for name, right in whole.correct.items():
        assert torch.equal(right, other.correct[name])


def test_a_session_a_batch_and_model(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    cmap.run(experiment, cmap.Settings())
    assert experiment.runner.cost.units == 2 * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (cmap.Settings(groups=["nope"]), r"method\.groups\.0: no group 'nope'.*value_fetcher"),
        (cmap.Settings(form="sideways"), r"method\.form: unknown form 'sideways'; available: output, input"),
        (cmap.Settings(form="input", components=["z"]), r"method\.components\.0: unknown component 'z'"),
    ],
)
def test_what_does_not_exist_is_named(
    golden_experiment: Experiment,
    golden_circuit: Circuit,
    monkeypatch: pytest.MonkeyPatch,
    settings: cmap.Settings,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        cmap.run(with_circuit(golden_experiment, golden_circuit, monkeypatch), settings)


def test_an_unknown_donor_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match="donor: family 'golden' has no member 'nope'; available: base, donor, twin"):
        cmap.run(dataclasses.replace(golden_experiment, donor="nope"), cmap.Settings())
