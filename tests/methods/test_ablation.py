"""Ablation of components as a method: what it reports, what it refuses, and what is shown."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest
import torch

from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.ablation.method import positions_of
from entitrack.methods.ablation.settings import RANDOM, Settings
from entitrack.methods.evaluate.settings import Settings as EvaluateSettings
from entitrack.methods.experiment import Experiment
from tests.methods import hand_made
from tests.naive import components as naive
from tests.naive import layouts
from tests.naive.prompts import Prompts

FEW: dict[str, Any] = {"mean_count": 14}


def ablate(experiment: Experiment, **settings: Any) -> Result:
    return run_method("ablation", experiment, Settings(**FEW | settings))


def test_the_model_as_it_is_stands_beside(golden_experiment: Experiment) -> None:
    result = ablate(golden_experiment)
    plain = run_method("evaluate", golden_experiment, EvaluateSettings(models=["base"]))
    assert torch.equal(result["intact.prediction"].values, plain["prediction"].at(model="base").values)
    found = result["probability"]
    assert found.axes == ("component", "layer", "role", "prompt")
    assert found.names("component") == ("attn_out", "mlp_out")
    assert found.names("layer") == ("0", "1", "2", "3")
    assert found.names("role") == ("last", "query_label", "prev_query_label", RANDOM)
    assert set(result.words) == {
        *result["prediction"].values.unique().tolist(), *result["intact.prediction"].values.unique().tolist()
    }  # fmt: skip
    assert hand_made.retold(result).tables == result.tables


@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_axes_are_in_the_order_that_they_say(golden_experiment: Experiment, ablation: str) -> None:
    """A part of it alone gives the same entries, whatever the size of batches."""
    whole = ablate(golden_experiment, ablation=ablation, control=False)
    few = dataclasses.replace(golden_experiment, batch_size=5)
    part = ablate(few, ablation=ablation, control=False, components=["mlp_out", "resid_mid"], roles=["query_label"])
    assert part["correct"].names("component") == ("mlp_out", "resid_mid")
    for layer in "0123":
        at = {"component": "mlp_out", "layer": layer, "role": "query_label"}
        one, other = (result["probability"].at(**at).values for result in (whole, part))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    values = whole["probability"].values
    assert not torch.equal(values[0, 0], values[0, 1])
    assert not torch.equal(values[:, :, 0], values[:, :, 2])


def test_means_are_of_prompts_with_random_content(golden_experiment: Experiment) -> None:
    """Read by hooks at the clean prompt's token index, averaged by hand, and put in by hooks."""
    result = ablate(golden_experiment, components=["resid_mid"], roles=["prev_query_label"], metric="probability")
    batch = golden_experiment.encode(golden_experiment.task.prompts())
    other = golden_experiment.encode(golden_experiment.task.backgrounds(FEW["mean_count"]))
    module = golden_experiment.base().envoy._module
    layout, background = layouts.layout_of(module), Prompts(other.tokens, other.mask)
    position, last = batch.positions["prev_query_label"], batch.positions["last"]
    assert len(position.unique()) > 3
    for layer in (0, 1):
        means = {
            index: naive.read_component(
                module, layout, background, "resid_mid", layer, torch.full((len(other),), index)
            ).mean(0)
            for index in position.unique().tolist()
        }
        values = torch.stack([means[index] for index in position.tolist()])
        where = ("resid_mid", layer, position, values, last)
        logits = naive.component_patched_logits(module, layout, Prompts(batch.tokens, batch.mask), *where)
        expected = logits.softmax(-1).gather(1, batch.answers[:, None])[:, 0]
        found = result["probability"].at(component="resid_mid", layer=str(layer), role="prev_query_label").values
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        assert float((found - result["intact.probability"].values).abs().max()) > 1e-3


def test_nothing_after_attention_of_the_last_layer_is_read_elsewhere(golden_experiment: Experiment) -> None:
    """What the last layer does anywhere but at the last token answers nothing; the stream at the end is the answer."""
    result = ablate(golden_experiment, ablation="zero", components=["mlp_out", "resid_mid"], metric="probability")
    intact = result["intact.probability"].values
    for role in ("query_label", "prev_query_label"):
        for component in ("mlp_out", "resid_mid"):
            at = {"component": component, "layer": "3", "role": role}
            torch.testing.assert_close(result["probability"].at(**at).values, intact, atol=1e-6, rtol=0)
    gone = result["probability"].at(component="resid_mid", layer="3", role="last").values
    assert float((gone - intact).abs().max()) > 0.01


def test_random_positions_are_neither_the_first_nor_a_role_s(golden_experiment: Experiment) -> None:
    (batch,) = golden_experiment.encoded(golden_experiment.task.prompts()[:21])
    roles = ["last", "query_label"]
    drawn = [positions_of(batch, roles, Random(seed)) for seed in range(20)]
    for positions in drawn:
        assert torch.equal(positions[0], batch.positions["last"])
        assert torch.equal(positions[1], batch.positions["query_label"])
        assert bool((positions[2] > 0).all() and (positions[2] < batch.mask.sum(1)).all())
        assert not bool((positions[2] == positions[:2]).any())
    assert len({tuple(positions[2].tolist()) for positions in drawn}) == 20
    assert len(positions_of(batch, roles, None)) == 2


def test_roles_and_components_are_those_that_there_are(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"method\.roles\.1: the task has no role 'nope'"):
        ablate(golden_experiment, roles=["last", "nope"])
    with pytest.raises(UserError, match=r"method\.components\.0: unknown component 'z'"):
        Settings(components=["z"])


def made_result() -> Result:
    """Twelve contexts of two prompts, two layers, at `last` and elsewhere: without layer 1 at `last` half is lost."""
    on = hand_made.prompts(24)
    on = dataclasses.replace(on, clusters=torch.arange(24) // 2)
    right, half = [True] * 24, [True, False] * 12
    correct = [[[right, right], [half, right]]]
    labels = {"component": ("mlp_out",), "layer": ("0", "1"), "role": ("last", RANDOM)}
    measurements = {
        "correct": hand_made.measured(correct, "component layer role", on, **labels),
        "intact.correct": hand_made.measured(right, "", on),
    }
    return hand_made.laid_out("ablation", {"model": "a", "metric": "accuracy", "ablation": "zero"}, measurements)


def test_every_column_says_what_was_measured() -> None:
    result = made_result()
    (table,) = result.tables
    assert table.title == "a without mlp_out, zero ablation; F is accuracy [95 %], n = 24"
    assert table.columns == ("layer", "last", RANDOM)
    assert hand_made.rows(table) == [["none", 1.0, 1.0], ["0", 1.0, 1.0], ["1", 0.5, 1.0]]
    assert result.notes[0] == "mlp_out: what the MLPs of their layers add"
    assert any(note.startswith(RANDOM) for note in result.notes)


def test_the_figure_shows_what_is_lost() -> None:
    drawing = hand_made.drawing(made_result())
    (panel,) = hand_made.maps(made_result())
    assert panel.title == "mlp_out"
    assert panel.values == ((0.0, 0.0), (0.5, 0.0))
    assert drawing.scale is not None
    assert (drawing.scale.low, drawing.scale.high, drawing.scale.worse) == (-0.5, 0.5, "high")
    assert panel.columns.entries == ("last", RANDOM)
    assert panel.rows.entries == ("0", "1")
    assert panel.upward
    assert panel.told[1][0].startswith("F without: .500 [")
