"""Curves over circuit size: held to plain hooks and to areas by hand; which prompts their order sees."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.ablated_model import prepare
from entitrack.methods.ablation_settings import Ablation
from entitrack.methods.circuit_curve.areas import area_from_1, curve_of, random_curves
from entitrack.methods.circuit_curve.orders import sizes_to_run
from entitrack.methods.circuit_curve.settings import Order, Settings
from entitrack.methods.experiment import Experiment
from entitrack.methods.faithfulness.settings import Settings as FaithfulnessSettings
from entitrack.tasks.boxes import BoxesPrompt
from entitrack.tasks.encoding import EncodedBatch
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made
from tests.naive.ablation import ablated_logits
from tests.naive.ablation import mean_z as naive_mean_z
from tests.naive.layouts import llama_layout
from tests.naive.prompts import Prompts

ROLES = ("prev_query_label", "query_label", "last")
UNITS = 3 * 4 * 6
FEW: dict[str, Any] = {"models": ["base"], "mean_count": 42, "random_orders": 0, "sizes": [2, 7, 30]}


@dataclass(frozen=True)
class Later(GoldenTask):
    """Prompts of golden's kind, without the first ones."""

    skipped: int = 42

    def prompts(self) -> list[BoxesPrompt]:
        return super().prompts()[self.skipped :]


@pytest.fixture
def experiment(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> Experiment:
    """About golden's circuit, with other contexts to search on."""
    golden_circuit.write(tmp_path / "circuit.json")
    searched = Later(golden_experiment.task.vocabulary, count=63)  # type: ignore[attr-defined]
    return dataclasses.replace(golden_experiment, circuit_name=str(tmp_path / "circuit.json"), search_task=searched)


def curves(experiment: Experiment, **settings: Any) -> Result:
    return run_method("circuit_curve", experiment, Settings(**{**FEW, **settings}))


@dataclass(frozen=True)
class Hooked:
    """The base with plain hooks, and some prompts of one length."""

    experiment: Experiment
    prompts: list[BoxesPrompt]
    ablation: Ablation

    def differences(self, live_units: Tensor) -> Tensor:
        """Logit differences where these heads, `[role, layer, head]`, are live, and no others."""
        batch, model = self.batch, self.experiment.base().envoy._module
        layout, prompts = llama_layout(model), Prompts(batch.tokens)
        live = torch.zeros(len(batch), 4, batch.tokens.shape[1], 6, dtype=torch.bool)
        for number, role in enumerate(ROLES):
            live[torch.arange(len(batch)), :, batch.positions[role]] |= live_units[number]
        logits = ablated_logits(model, layout, prompts, self.fill, live, batch.positions["last"])
        return self.margins(logits)

    @cached_property
    def batch(self) -> EncodedBatch:
        (batch,) = self.experiment.encoded(self.prompts)
        return batch

    @cached_property
    def fill(self) -> Tensor:
        model = self.experiment.base().envoy._module
        (others,) = self.experiment.encoded(self.experiment.task.backgrounds(42))
        means = naive_mean_z(model, llama_layout(model), Prompts(others.tokens))
        return means if self.ablation == "mean" else torch.zeros_like(means)

    def margins(self, logits: Tensor) -> Tensor:
        tokens = self.experiment.family.tokenizer
        margins = []
        for prompt, row in zip(self.prompts, logits, strict=True):
            words = [box.object for box in prompt.context.boxes]
            offered = {word: float(row[tokens.encode(f" {word}")[-1]]) for word in words}
            margins.append(offered.pop(prompt.answer) - max(offered.values()))
        return torch.tensor(margins)

    def intact(self) -> Tensor:
        model = self.experiment.base().envoy._module
        return self.margins(Prompts(self.batch.tokens).logits_at(model, self.batch.positions["last"]))


def hooked(experiment: Experiment, task: Any, ablation: Ablation, count: int = 42) -> Hooked:
    return Hooked(dataclasses.replace(experiment, batch_size=999), list(task.prompts())[:count], ablation)


@torch.no_grad()
@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_curves_and_orders_are_those_of_plain_hooks(experiment: Experiment, ablation: Ablation) -> None:
    """The order: what the removal of each unit leaves, on the prompts to search on. The curve: on the others."""
    result = curves(experiment, ablations=[ablation], metric="logit_difference", order_prompts=7)
    assert result["order"].labels["role"] == ROLES
    places = result["order"].at(ablation=0, model=0).values
    assert sorted(places.flatten().tolist()) == list(range(UNITS))
    searched = hooked(experiment, experiment.search_task, ablation, 7)
    units = torch.eye(UNITS, dtype=torch.bool).reshape(UNITS, 3, 4, 6)
    left = torch.stack([searched.differences(~unit).mean() for unit in units])[places.flatten().argsort()]
    assert left[-1] - left[0] > 0.1
    assert (left.diff() > -1e-3).all(), "the unit that is missed most comes first"
    judged = hooked(experiment, experiment.task, ablation)
    none, whole = judged.differences(places < 0).mean(), judged.intact().mean()
    f, sizes = [], result.facts["sizes"]
    assert {0, 2, 7, 30, UNITS} <= set(sizes)
    for size in sizes:
        expected = judged.differences(places < size)
        measured = result["logit_difference"].at(ablation=0, model=0, circuit=str(size)).values
        torch.testing.assert_close(measured, expected, atol=1e-3, rtol=1e-4)
        f.append(float((expected.mean() - none) / (whole - none)))
    curve = curve_of(result, "base", ablation)
    shares = [size / UNITS for size in sizes]
    assert curve.f() == pytest.approx(f, abs=1e-3)
    assert curve.cpr().value == pytest.approx(np.trapezoid(f, shares), abs=1e-3)
    assert curve.cmd().value == pytest.approx(np.trapezoid(np.abs(1 - np.array(f)), shares), abs=1e-3)


def test_ends_of_the_curve_and_the_circuits_point_are_those_of_faithfulness(experiment: Experiment) -> None:
    settings: dict[str, Any] = {"models": ["base", "donor"], "ablations": ["zero", "resample"]}
    result = curves(experiment, order="circuit", order_prompts=7, **settings)
    known = run_method("faithfulness", experiment, FaithfulnessSettings(random_circuits=0, mean_count=42, **settings))
    heads = experiment.circuit(experiment.base()).size
    names = {"model": "model", "circuit": "circuit", str(heads): "circuit", str(UNITS): "roles", "0": "empty"}
    for ours, theirs in names.items():
        for name in ("logit_difference", "probability", "recovered"):
            values = (result[name].at(circuit=ours).values, known[name].at(circuit=theirs).values)
            torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)
    for model in settings["models"]:
        for ablation in settings["ablations"]:
            curve = curve_of(result, model, ablation)
            assert curve.f()[0] == 0
            assert curve.f()[curve.sizes.index(heads)] == pytest.approx(curve.f_of_given().value)


def test_the_circuits_units_come_first_by_turns_and_the_others_as_alone(
    experiment: Experiment, golden_circuit: Circuit
) -> None:
    ours, alone = (
        curves(experiment, order=order, ablations=["zero"], order_prompts=7)["order"].values[0, 0]
        for order in ("circuit", "alone")
    )
    groups = golden_circuit.groups
    expected: list[Any] = []
    turn = 0
    while len({(group.role, head) for group in groups for head in group.heads}) > len(expected):
        for group in groups:
            unit = (ROLES.index(group.role), *group.heads[turn]) if turn < len(group.heads) else None
            expected += [unit] * (unit is not None and unit not in expected)
        turn += 1
    assert [int(ours[unit]) for unit in expected] == list(range(len(expected)))
    rest = torch.ones_like(ours, dtype=torch.bool)
    for unit in expected:
        rest[unit] = False
    assert torch.equal(ours[rest].argsort(), alone[rest].argsort())


@torch.no_grad()
def test_each_unit_of_the_greedy_order_adds_most(experiment: Experiment, tmp_path: Path) -> None:
    Circuit((Group("fetchers", "last", ((3, 0),)),)).write(tmp_path / "one.json")
    on = dataclasses.replace(experiment, circuit_name=str(tmp_path / "one.json"))
    places = curves(on, order="greedy", ablations=["zero"], order_prompts=7, sizes=[])["order"].values[0, 0]
    assert places.shape == (1, 4, 6)
    assert sorted(places.flatten().tolist()) == list(range(24))
    searched = hooked(on, experiment.search_task, "zero", 7)
    for step in range(3):
        there = torch.zeros(3, 4, 6, dtype=torch.bool)
        there[2] = (places < step)[0]
        reached = {}
        for unit in (places >= step).nonzero().tolist():
            larger = there.clone()
            larger[2, unit[1], unit[2]] = True
            reached[tuple(unit)] = float(searched.differences(larger).mean())
        chosen = tuple((places == step).nonzero()[0].tolist())
        assert reached[chosen] == pytest.approx(max(reached.values()), abs=1e-3)


@pytest.mark.parametrize("order", ["alone", "greedy"])
def test_the_order_sees_the_prompts_to_search_on_and_no_others(
    experiment: Experiment, order: Order, tmp_path: Path
) -> None:
    Circuit((Group("fetchers", "last", ((3, 0),)),)).write(tmp_path / "one.json")
    searched = experiment.search_task
    assert searched is not None

    def orders(task: Any, search_task: Any) -> tuple[Tensor, Result]:
        changes = {"task": task, "search_task": search_task, "circuit_name": str(tmp_path / "one.json")}
        result = curves(
            dataclasses.replace(experiment, **changes), order=order, ablations=["zero"], order_prompts=14, sizes=[]
        )
        return result["order"].values, result

    (one, apart), (other, _) = orders(experiment.task, searched), orders(searched, searched)
    assert torch.equal(one, other)
    same, together = orders(experiment.task, None)
    assert not torch.equal(one, same)
    assert "the order was found on 2 contexts; of the 6 contexts here 0 are among them" in apart.notes
    assert "the order was found on 2 contexts; of the 6 contexts here 2 are among them" in together.notes


def test_random_orders_are_recorded_and_run_on_the_first_prompts(experiment: Experiment) -> None:
    """Their F is that of the units that the record says, with the same resampled prompts; the order beats them."""
    settings: dict[str, Any] = {"random_orders": 4, "control_prompts": 10, "metric": "logit_difference"}
    result = curves(experiment, ablations=["resample"], models=["base"], **settings)
    orders, sizes = result["random.order"].values, result.facts["sizes"]
    assert orders.shape == (4, 3, 4, 6)
    assert all(sorted(order.flatten().tolist()) == list(range(UNITS)) for order in orders)
    assert len(orders.flatten(1).unique(dim=0)) == 4
    ablated = prepare(experiment, experiment.base(), ROLES, Settings(**FEW), experiment.task.prompts(), "resample")
    means = result["random"].at(ablation=0, model=0, metric="logit_difference").values
    for number, order in enumerate(orders):
        again = ablated.run(torch.stack([order < size for size in sizes])).logit_difference[:, :10]
        torch.testing.assert_close(means[number], again.double().mean(1), atol=1e-4, rtol=1e-4)
    none, whole = (result["logit_difference"].values[0, 0, row, :10].double().mean() for row in (2, 0))
    expected = ((means - none) / (whole - none)).numpy()
    assert random_curves(result, "base", "resample") == pytest.approx(expected, abs=1e-4)
    one, *others = hand_made.rows(result.tables[2])
    assert one[2] == "CPR"
    assert one[6] > one[5]  # type: ignore[operator]
    assert one[7] == pytest.approx(0.2)
    assert others[0][6] < others[0][3]  # type: ignore[operator]


@pytest.mark.slow
def test_results_do_not_depend_on_batches_or_sessions(experiment: Experiment) -> None:
    settings: dict[str, Any] = {"ablations": ["resample"], "random_orders": 2, "control_prompts": 30}
    first = curves(experiment, **settings)
    cut = curves(dataclasses.replace(experiment, batch_size=13, gib=1e-4), **settings, circuits_per_session=5)
    assert torch.equal(first["order"].values, cut["order"].values)
    for name in ("probability", "logit_difference", "random"):
        torch.testing.assert_close(cut[name].values, first[name].values, atol=1e-3, rtol=1e-4)


def test_above_1_is_as_far_from_the_model_as_below() -> None:
    f, weights = np.array([[0.5, 1.5], [1.0, 1.0]]), np.array([0.25, 0.75])
    assert area_from_1(f, weights).tolist() == [0.5, 0.0]


def test_sizes_are_none_all_the_circuits_and_those_between() -> None:
    grid = sizes_to_run([], 3072, 45)
    assert grid[:3] == [0, 1, 2]
    assert grid[-1] == 3072
    assert 45 in grid
    assert 14 <= len(grid) <= 17
    assert sizes_to_run([5, 2, 5], 72, 7) == [0, 2, 5, 7, 72]
    with pytest.raises(UserError, match=r"^method\.sizes\.1: 73 is more than the 72 heads at roles that there are"):
        sizes_to_run([5, 73], 72, 7)


def test_a_member_with_other_heads_is_refused(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def heads(model: Any) -> tuple[int, int]:
        return (4, 6) if model.name == "base" else (4, 8)

    monkeypatch.setattr("entitrack.methods.circuit_curve.plan._heads", heads)
    with pytest.raises(UserError, match=r"^method\.models: donor has 4 layers of 8 heads, and the base 4 of 6"):
        curves(experiment, models=["donor"])
