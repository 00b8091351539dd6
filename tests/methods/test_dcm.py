"""Mask training and activation patching as methods: what they split, keep, and refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from entitrack.backends import Local, Runner
from entitrack.circuits import Circuit, Group
from entitrack.errors import UserError
from entitrack.masks import Masks, read_masks
from entitrack.methods import activation_patching, dcm
from entitrack.methods.activation_patching import NOTHING
from entitrack.methods.dcm_data import split
from entitrack.methods.experiment import Experiment
from entitrack.store import Store
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.desiderata import DESIDERATA
from tests.golden_prompts import GoldenTask

SMALL = dcm.Settings(desiderata=["object_value", "positional"], sparsity=[0.01, 1.0], draws=2, steps=8, batch_size=16)


@pytest.fixture
def experiment(
    golden_experiment: Experiment, golden_task: GoldenTask, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model: golden_circuit)
    return dataclasses.replace(golden_experiment, task=dataclasses.replace(golden_task, count=42))


@pytest.mark.parametrize("contexts", [4, 5, 7, 12])
def test_no_context_is_in_two_splits(contexts: int) -> None:
    pairs = DESIDERATA["positional"].pairs(Boxes(count=7 * contexts).prompts(), 0, "default")
    found = split([pairs, pairs])
    parts = [found.train, found.validation, found.test]
    clusters = [{pair.clean.cluster for pair in part[0]} for part in parts]
    assert sum(len(own) for own in clusters) == contexts == len(set().union(*clusters))
    assert len(clusters[0]) == contexts // 2
    assert all(clusters)


def test_a_mask_lies_between_its_brackets_in_number_of_heads(experiment: Experiment, golden_circuit: Circuit) -> None:
    result = dcm.run(experiment, SMALL)
    assert len(result.trained) == 4 * 2 * 2 * 2
    for mask in result.trained:
        group = golden_circuit.group(mask.group)
        assert set(mask.heads) <= set(group.heads)
        if not mask.heads:
            assert torch.equal(mask.correct["mask"], mask.correct["nothing"])
        if len(mask.heads) == mask.size:
            assert torch.equal(mask.correct["mask"], mask.correct["whole group"])
        assert len(mask.history["losses"]) <= SMALL.steps
    for group in golden_circuit.groups:
        best = result.chosen(group.name, "positional")
        assert best is not None
        assert result.masks.heads[group.name]["positional"] == best.heads
    assert len(result.notes) == 2 + len(golden_circuit.groups)


def test_whole_group_and_nothing_are_activation_patching(experiment: Experiment, golden_circuit: Circuit) -> None:
    """The brackets of the test prompts, found by the other method on the same pairs."""
    trained = dcm.run(experiment, dataclasses.replace(SMALL, draws=1, steps=2))
    patched = activation_patching.run(
        experiment, activation_patching.Settings(["base"], ["object_value", "positional"], repeats=1)
    )
    test = len(trained.clusters)
    for group in golden_circuit.groups:
        for entry in patched.patched:
            mask = trained.chosen(group.name, entry.desideratum)
            assert mask is not None
            assert torch.equal(mask.correct["whole group"], entry.correct[group.name][0, -test:])
            assert torch.equal(mask.correct["nothing"], entry.correct[NOTHING][0, -test:])


def test_masks_choose_what_is_patched(experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    none: Masks = Masks({group.name: {"object_value": ()} for group in golden_circuit.groups})
    whole = Masks({group.name: {"object_value": group.heads} for group in golden_circuit.groups})
    found = {}
    for name, masks in (("none", none), ("whole", whole)):
        masks.write(tmp_path / f"{name}.json")
        assert read_masks(str(tmp_path / f"{name}.json")).heads == masks.heads
        settings = activation_patching.Settings(["base"], ["object_value"], masks=str(tmp_path / f"{name}.json"))
        found[name] = activation_patching.run(experiment, settings)
    every = activation_patching.run(experiment, activation_patching.Settings(["base"], ["object_value"]))
    for group in golden_circuit.groups:
        assert torch.equal(found["none"].patched[0].correct[group.name], found["none"].patched[0].correct[NOTHING])
        assert torch.equal(found["whole"].patched[0].correct[group.name], every.patched[0].correct[group.name])
    assert every.tables[0].rows[0][-1] == 3 * 42


def test_groups_without_heads_are_named_and_change_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Circuit((Group("value_fetcher", "last", ()),))
    monkeypatch.setattr(Experiment, "circuit", lambda self, model: empty)
    result = dcm.run(experiment, SMALL)
    assert "value_fetcher has no heads: nothing to train" in result.notes
    assert result.masks.heads["value_fetcher"]["positional"] == ()
    patched = activation_patching.run(experiment, activation_patching.Settings(["base"]))
    for entry in patched.patched:
        assert torch.equal(entry.correct["value_fetcher"], entry.correct[NOTHING])


def test_finished_sessions_are_not_run_again(experiment: Experiment, tmp_path: Path) -> None:
    on = dataclasses.replace(experiment, runner=Runner(Local(), Store(tmp_path)))
    settings = dataclasses.replace(SMALL, draws=1, sparsity=[0.01], steps=2)
    first = dcm.run(on, settings)
    units = on.runner.cost.units
    second = dcm.run(on, settings)
    assert (on.runner.cost.units, on.runner.cost.reused) == (units, units)
    assert [mask.heads for mask in first.trained] == [mask.heads for mask in second.trained]


def test_published_positions_are_the_clean_prompts_own(experiment: Experiment, golden_task: GoldenTask) -> None:
    """The quirk moves where the structure reader is read, and nothing else."""
    paper = dataclasses.replace(experiment, task=dataclasses.replace(golden_task, count=42, compat="paper"))
    settings = activation_patching.Settings(["base"], ["positional"], repeats=1)
    assert activation_patching.run(paper, settings).patched
    assert dcm.run(paper, dataclasses.replace(SMALL, steps=2)).trained


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dcm.Settings(sparsity=[]), "method.sparsity: no weight"),
        (dcm.Settings(groups=["nobody"]), "no group 'nobody'"),
        (dcm.Settings(desiderata=["nothing_such"]), "no desideratum 'nothing_such'"),
        (dcm.Settings(model="nobody"), "no member 'nobody'"),
    ],
)
def test_mistakes_are_named(experiment: Experiment, settings: dcm.Settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dcm.run(experiment, settings)


def test_too_few_contexts_are_refused(experiment: Experiment, golden_task: GoldenTask) -> None:
    few = dataclasses.replace(experiment, task=dataclasses.replace(golden_task, count=21))
    with pytest.raises(UserError, match="3 contexts are too few"):
        dcm.run(few, SMALL)


def test_masks_of_another_circuit_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        activation_patching.run(experiment, activation_patching.Settings(masks="nowhere.json"))
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(UserError, match=r"bad\.json: is not a JSON object"):
        activation_patching.run(experiment, activation_patching.Settings(masks=str(tmp_path / "bad.json")))
    Masks({"value_fetcher": {"object_value": ((0, 5),)}}).write(tmp_path / "other.json")
    settings = activation_patching.Settings(["base"], ["object_value"], masks=str(tmp_path / "other.json"))
    with pytest.raises(UserError, match="are not in the circuit's group"):
        activation_patching.run(experiment, settings)
