"""Faithfulness: laws of means, metrics, random circuits and ratios; and what is shown of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.drawing import legend
from entitrack.core.errors import UserError
from entitrack.core.measurement import Measurement
from entitrack.core.quirks import NONE, Quirk, Quirks
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.ablated_model import mean_z, prepare
from entitrack.methods.ablation_settings import Ablation, AblationSettings, CircuitSettings
from entitrack.methods.evaluate.settings import Settings as EvaluateSettings
from entitrack.methods.experiment import Experiment
from entitrack.methods.faithfulness.method import CIRCUITS, random_circuits
from entitrack.methods.faithfulness.settings import Settings
from entitrack.methods.metrics import Metric
from entitrack.methods.outcomes import MEASURED_AS, measured
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made

PAPER = frozenset(Settings.quirks)
ROLES = ("last", "query_label", "prev_query_label")


def with_circuit(experiment: Experiment, circuit: Circuit, folder: Path) -> Experiment:
    circuit.write(folder / "circuit.json")
    return dataclasses.replace(experiment, circuit_name=str(folder / "circuit.json"))


def faithfulness(experiment: Experiment, settings: Settings) -> Result:
    return run_method("faithfulness", experiment, settings)


def of_base(result: Result) -> Measurement:
    """F of the circuits in the base."""
    return measured(result).at(model="base", ablation="mean")


@pytest.mark.parametrize("ablation", get_args(Ablation))
@pytest.mark.parametrize("metric", get_args(Metric))
def test_every_metric_with_every_ablation(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path, ablation: Ablation, metric: Metric
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = Settings(models=["base"], random_circuits=3, mean_count=42, ablations=[ablation], metric=metric)
    result = faithfulness(experiment, settings)
    for name in ("prediction", *MEASURED_AS.values()):
        assert result[name].axes == ("ablation", "model", "circuit", "prompt")
        assert result[name].values.shape == (1, 1, 4, 42)
    assert (result["recovered"].at(circuit="empty").values == 0).all()
    assert result["random"].values.shape == (1, 1, len(MEASURED_AS), 3)
    assert len(result.tables) == 2
    assert hand_made.retold(result).tables == result.tables
    assert metric in result.tables[0].title


def test_quantities_of_an_answer_agree(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    """A prediction is right where it is the answer's token, and then no other answer has a larger logit."""
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = faithfulness(experiment, Settings(ablations=["mean"], models=["base"], random_circuits=0, mean_count=42))
    answers = torch.cat([batch.answers for batch in experiment.encoded(experiment.task.prompts())])
    correct = result["correct"].values
    assert torch.equal(correct, result["prediction"].values == answers)
    assert (result["logit_difference"].values[correct] >= 0).all()
    assert set(result.words) == set(result["prediction"].values.unique().tolist())
    margin = result["logit_difference"]
    expected = margin.at(circuit="circuit").values - margin.at(circuit="empty").values
    assert torch.equal(result["recovered"].at(circuit="circuit").values, expected)


def test_the_whole_model_is_the_model(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = faithfulness(experiment, Settings(random_circuits=0, ablations=["zero"]))
    plain = run_method("evaluate", experiment, EvaluateSettings())
    assert result["correct"].names("model") == plain["correct"].names("model")
    assert torch.equal(result["prediction"].at(ablation="zero", circuit="model").values, plain["prediction"].values)
    torch.testing.assert_close(
        result["probability"].at(ablation="zero", circuit="model").values, plain["probability"].values
    )


@pytest.mark.parametrize("quirks", [NONE, PAPER], ids=["default", "paper"])
def test_random_circuits_of_all_heads_are_the_circuit_unless_drawn_as_published(
    golden_experiment: Experiment, tmp_path: Path, quirks: Quirks
) -> None:
    """There is one circuit of all heads; with replacement, some are drawn twice and others not at all."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    everything = Circuit(tuple(Group(role, role, heads) for role in ROLES))
    settings = Settings(ablations=["mean"], models=["base"], random_circuits=3, mean_count=42, metric="probability")
    experiment = dataclasses.replace(golden_experiment, quirks=quirks - {Quirk.SHARED_HEADS})
    result = faithfulness(with_circuit(experiment, everything, tmp_path), settings)
    random = result["random"].at(model="base", ablation="mean")
    for metric, name in MEASURED_AS.items():
        mean = result[name].means(model="base", ablation="mean", circuit="circuit")
        equal = (random.at(metric=metric).values - mean).abs() < 1e-9
        assert bool(equal.all()) == (not quirks)


def test_the_base_and_its_twin_are_equally_faithful(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = Settings(models=["base", "twin"], random_circuits=0, mean_count=42, metric="probability")
    values = measured(result := faithfulness(experiment, settings))
    for circuit in CIRCUITS:
        ends = [values.at(model=model, circuit=circuit).values for model in ("base", "twin")]
        assert torch.equal(*ends)
    assert len(result.tables) == 1


def test_ablations_stand_side_by_side_and_random_heads_are_recorded(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    """Each is what it is alone; the random circuits are the same ones, and their F is that of their heads."""
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    few = Settings(models=["base", "donor"], random_circuits=3, mean_count=42, metric="probability")
    assert few.ablations == list(get_args(Ablation))
    result = faithfulness(experiment, few)
    for ablation in few.ablations:
        alone = faithfulness(experiment, few.model_copy(update={"ablations": [ablation]}))
        for name in ("probability", "recovered", "random"):
            one = alone[name].at(ablation=ablation).values
            torch.testing.assert_close(result[name].at(ablation=ablation).values, one, atol=1e-5, rtol=1e-5)
        ablated = prepare(experiment, experiment.base(), ROLES, few, experiment.task.prompts(), ablation)
        assert result["random.heads"].labels["role"] == ablated.roles
        again = ablated.run(result["random.heads"].values).probability.double().mean(1)
        of_base = result["random"].at(ablation=ablation, model="base", metric="probability").values
        torch.testing.assert_close(of_base, again, atol=1e-5, rtol=1e-5)
    ratios = {row[:2]: row[4] for row in result.tables[0].rows}
    assert list(ratios) == [(model, ablation) for model in ("base", "donor") for ablation in few.ablations]
    assert len({ratio.value for ratio in ratios.values()}) >= 5  # type: ignore[union-attr]


def test_results_do_not_depend_on_batches_or_sessions(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = Settings(
        ablations=["mean"], models=["base"], random_circuits=5, mean_count=42, metric="logit_difference"
    )
    first = faithfulness(experiment, settings)
    cut = settings.model_copy(update={"circuits_per_session": 3})
    again = faithfulness(dataclasses.replace(experiment, batch_size=13, gib=1e-4), cut)
    for name in ("probability", "logit_difference", "recovered", "random"):
        torch.testing.assert_close(again[name].values, first[name].values, atol=1e-3, rtol=1e-4)


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
    drawn = random_circuits(live, 50, seed=1)
    assert (drawn.sum((2, 3)) == live.sum((1, 2))).all()
    assert torch.equal(drawn, random_circuits(live, 50, seed=1))
    assert len(drawn.flatten(1).unique(dim=0)) > 40
    published = random_circuits(live, 200, seed=1, replace=True)
    assert (published.sum((2, 3)) <= live.sum((1, 2))).all()
    assert (published.sum((2, 3))[:, 2] < 7).any()


def test_roles_are_ordered_by_position_and_prompts_of_several_lengths_refused(golden_experiment: Experiment) -> None:
    settings = CircuitSettings()
    prompts = golden_experiment.task.prompts()
    ablated = prepare(golden_experiment, golden_experiment.base(), ROLES, settings, prompts, "zero")
    assert ablated.roles == ("prev_query_label", "query_label", "last")
    task = golden_experiment.task
    assert isinstance(task, GoldenTask)
    shorter = dataclasses.replace(task, boxes=5).prompts()
    with pytest.raises(UserError, match="one length"):
        prepare(golden_experiment, golden_experiment.base(), ROLES, settings, [*prompts, *shorter], "zero")


def test_an_ablation_that_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match=r"method\.ablation: unknown ablation 'none'; available: mean, zero, resample"):
        AblationSettings(ablation="none")  # type: ignore[arg-type]


def test_a_circuit_with_no_heads_is_the_empty_one(golden_experiment: Experiment, tmp_path: Path) -> None:
    nothing = Circuit(tuple(Group(role, role, ()) for role in ROLES))
    experiment = with_circuit(golden_experiment, nothing, tmp_path)
    settings = Settings(ablations=["mean"], models=["base"], random_circuits=0, mean_count=42, metric="probability")
    values = of_base(faithfulness(experiment, settings))
    assert torch.equal(values.at(circuit="circuit").values, values.at(circuit="empty").values)


PROBABILITY = [
    [[0.5, 0.7, 0.9, 0.9], [0.2, 0.4, 0.6, 0.8], [0.4, 0.4, 0.6, 0.8], [0.1, 0.1, 0.1, 0.3]],
    [[0.0, 0.0, 0.0, 0.0], [0.1, 0.1, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3], [0.0, 0.0, 0.0, 0.2]],
]
"""Of two models: the model, the circuit, all at its roles, none, on four prompts."""

RANDOM = [[0.1, 0.2, 0.5, 0.6], [0.05, 0.1, 0.15, 0.15]]
"""Mean probability of four random circuits in each model."""


def result(quirks: Quirks = NONE, random: bool = True) -> Result:
    axes, labels = "ablation model circuit", {"ablation": ("zero",), "model": ("a", "b"), "circuit": CIRCUITS}
    made = {"probability": hand_made.measured([PROBABILITY], axes, hand_made.prompts(4), **labels)}
    if random:
        means = [[[7.0] * 4, of_model, [8.0] * 4, [9.0] * 4] for of_model in RANDOM]
        made["random"] = hand_made.measured(
            [means], "ablation model metric circuit", ablation=("zero",), model=("a", "b"), metric=list(MEASURED_AS)
        )
    return hand_made.laid_out("faithfulness", {"metric": "probability", "quirks": sorted(quirks), "heads": 5}, made)


def test_tables_show_what_was_measured() -> None:
    main, random = result().tables
    assert main.title == "Faithfulness of a circuit of 5 heads; F is probability"
    head, (a, b) = main.columns, hand_made.rows(main)
    assert head == ("model", "ablation", "F(M) [95 %]", "F(C) [95 %]", "F(C)/F(M) [95 %]", "all at roles", "none", "n")
    assert a == ["a", "zero", 0.75, 0.5, 0.666667, 0.55, 0.15, 4]
    assert b[:4] == ["b", "zero", 0.0, 0.2]
    assert b[4] != b[4]  # no number
    assert b[5:] == [0.3, 0.05, 4]
    assert random.columns == ("model", "ablation", "5 %", "median", "95 %", "best", "the circuit", "p", "circuits")
    assert hand_made.rows(random) == [
        ["a", "zero", 0.115, 0.35, 0.585, 0.6, 0.5, 0.6, 4],
        ["b", "zero", 0.0575, 0.125, 0.15, 0.15, 0.2, 0.2, 4],
    ]
    assert "b: F(M) is 0, so there is no ratio" in result().notes
    assert not any(note.startswith("a:") for note in result().notes)


def test_published_ratios_are_of_rounded_means() -> None:
    values = [[[0.126] * 4, [0.054] * 4, [0.1] * 4, [0.0] * 4]]
    labels = {"ablation": ("mean",), "model": ("a",), "circuit": CIRCUITS}
    made = {"probability": hand_made.measured([values], "ablation model circuit", hand_made.prompts(4), **labels)}
    for quirks, ratio in ((NONE, 0.054 / 0.126), (PAPER, 0.05 / 0.13)):
        facts = {"metric": "probability", "quirks": sorted(quirks), "heads": 1}
        shown = hand_made.laid_out("faithfulness", facts, made)
        assert hand_made.rows(shown.tables[0])[0][4] == pytest.approx(ratio, abs=1e-6)
        assert any("rounded to 2 decimals" in note for note in shown.notes) == bool(quirks)


@pytest.mark.parametrize("random", [True, False])
def test_the_figure_draws_models_circuits_and_random_ones(random: bool) -> None:
    (panel,) = hand_made.row_panels(result(random=random))
    marks = [(row.name, hand_made.plain(row.marks[0].value), row.text) for row in panel.rows if row.marks]
    assert marks == [
        ("a", pytest.approx(0.75), ""),
        ("circuit", pytest.approx(0.5), "0.67"),
        ("b", pytest.approx(0.0), ""),
        ("circuit", pytest.approx(0.2), "no ratio"),
    ]
    assert [row.draws for row in panel.rows if not row.marks] == [pytest.approx(means) for means in RANDOM] * random
    labels = [label for _, _, label in legend(hand_made.drawing(result(random=random)))]
    circuit = "circuit of 5 heads, the others ablated"
    assert labels == ["a, whole", circuit, "b, whole", *["random circuits of its shape"] * random]
