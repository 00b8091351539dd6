"""Long suffixes to first order: what is rerun, and that the circuit is the one that exact scores give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.stages import Stage
from entitrack.engine.first_order import first_order_suffix
from entitrack.engine.memory import Measured
from entitrack.engine.passes import both_passes
from entitrack.engine.path_patching import at_position, scatter_effects, sweep_in_pieces
from entitrack.engine.receivers import received_probability, receiving_layers
from entitrack.methods import run_method
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching import view
from entitrack.methods.path_patching.settings import NEGLIGIBLE, Settings
from entitrack.methods.path_patching.suffixes import screened
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, dry_run
from entitrack.tasks.boxes import Boxes
from tests.engine.test_path_patching import golden_inputs

STAGES = [
    Stage(name="value_fetcher", role="last", component="logits", receivers=None, size=6),
    Stage(name="struct_reader", role="prev_query_label", component="v", receivers="value_fetcher", size=3),
    Stage(name="label_reader", role="prev_query_label", component="k", receivers="value_fetcher", size=3),
]


class Exact:
    """Exact scores of senders, made by hand: those to first order, and so much more."""

    def __init__(self, linear: list[float], change: list[float], more: list[float], noise: float = 0.0) -> None:
        self.linear, self.change, self.more = (torch.tensor([given]) for given in (linear, change, more))
        self.noise, self.asked = noise, []  # type: ignore[var-annotated]

    def rerun(self, senders: list[list[int]]) -> list[dict[str, Tensor]]:
        self.asked.append(senders[0])
        effect = torch.zeros(2, *self.linear.shape)
        effect[:, 0, senders[0]] = (self.linear + self.more)[0, senders[0]]
        return [{"effect": effect, "null": torch.full((2,), self.noise)}]

    def screened(self, chosen: Any = lambda effects, noise: []) -> tuple[list[list[int]], Tensor]:
        first = [{"effect": self.linear.expand(2, 1, -1), "change": self.change.expand(2, 1, -1)}]
        found = screened(first, self.rerun, chosen)
        assert found.rerun[0].nonzero().flatten().tolist() == sorted(head for round in self.asked for head in round)
        return self.asked, found.effects.mean(0)[0]


def test_only_products_that_are_not_negligible_are_rerun() -> None:
    asked, scores = Exact([-1.0, 0.5, -0.09, 0.0, 0.001], [1.0] * 5, [0.0] * 5).screened()
    assert asked == [[0, 1]]
    assert scores.tolist() == pytest.approx([-1.0, 0.5, -0.09, 0.0, 0.001])


def test_what_the_curvature_of_others_could_make_is_rerun_too() -> None:
    """Head 0 is .5 off at change 1, so a head of change .4 may be .2 off, and one of .1 no more than .05."""
    asked, scores = Exact([-1.0, 0.0, 0.0], [1.0, 0.4, 0.1], [-0.5, -0.02, -0.001]).screened()
    assert asked == [[0], [1]]
    assert scores.tolist() == pytest.approx([-1.5, -0.02, 0.0])


@pytest.mark.parametrize(("more", "noise"), [(5e-7, 0.0), (2e-5, 1e-5)])
def test_noise_is_no_curvature(more: float, noise: float) -> None:
    """A head that changes next to nothing, and is off by rounding: by its curvature all others would be rerun."""
    asked, _ = Exact([-1.0, 0.2, 0.0], [1.0, 1e-9, 0.5], [0.0, more, 0.0], noise).screened()
    assert asked == [[0, 1]]
    asked, _ = Exact([-1.0, 0.2, 0.0], [1.0, 1e-9, 0.5], [0.0, 1e-2, 0.0], noise).screened()
    assert asked == [[0, 1], [2]]


def test_whatever_is_chosen_is_rerun_until_nothing_new_is() -> None:
    exact = Exact([-1.0, -0.01, -0.012, 0.0], [1.0] * 4, [0.0, 0.0, 0.005, 0.0])

    def chosen(effects: Tensor, noise: float) -> list[tuple[int, int]]:
        order = effects.mean(0)[0].argsort().tolist()
        return [(0, head) for head in order[:2]]

    asked, scores = exact.screened(chosen)
    assert asked[:2] == [[0], [2]]
    assert asked[2:] == [[1]]
    assert scores.tolist() == pytest.approx([-1.0, -0.01, -0.007, 0.0])


def test_a_head_that_changes_nothing_is_never_rerun() -> None:
    asked, _ = Exact([-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]).screened(lambda effects, noise: [(0, 0), (0, 1)])
    assert asked == [[0]]


def nudged(
    model: Any, anatomy: Any, clean: Any, source: Any, senders: Any, receivers: Any, share: float
) -> dict[str, Tensor]:
    """Effects where receivers go a small share of the way, over that share."""
    top = max(receiving_layers(receivers))
    heads_of = {layer: heads for layer, heads in enumerate(senders) if layer < top}
    passes = both_passes(model, anatomy, clean, source, top)
    with torch.no_grad():
        state = at_position(anatomy, passes, clean["position"], source["position"], top)
        told = (receivers, clean["answers"], None, Measured())
        received, _ = sweep_in_pieces(model, anatomy, state, heads_of, *told)
        near = {layer: values[:, :1] + share * (values - values[:, :1]) for layer, values in received.items()}
        p, _ = received_probability(model, anatomy, clean, passes, near, receivers, None, Measured())
    return {"effect": scatter_effects(anatomy, (p / p[:, :1] - 1) / share, heads_of)["effect"]}


@pytest.mark.parametrize("stage", ["pos_transmitter", "pos_detector", "struct_reader"])
def test_first_order_is_the_slope(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    inputs = {"anatomy": golden_model.anatomy, **golden_inputs(golden, golden_json, stage)}
    found = Local().run(golden_model, first_order_suffix, inputs)
    expected = Local().run(golden_model, nudged, {**inputs, "share": 1e-2})["effect"]
    scale = expected.abs().max()
    torch.testing.assert_close(found["effect"] / scale, expected / scale, atol=2e-2, rtol=0)
    top = max(layer for layer, _ in inputs["receivers"]["heads"])
    assert found["change"][:, :top].mean(0).gt(0).all()
    assert found["change"][:, top:].eq(0).all()
    travelled = dry_run().run(golden_model, first_order_suffix, inputs)
    torch.testing.assert_close(travelled["effect"], found["effect"], atol=1e-6, rtol=1e-4)


def test_the_circuit_is_the_exact_one(tiny_experiment: Experiment) -> None:
    experiment = replace(tiny_experiment, task=Boxes(count=140), batch_size=70)
    told: dict[str, Any] = {"stages": STAGES, "force": True}
    exact = run_method("path_patching", experiment, Settings(**told))
    found = run_method("path_patching", experiment, Settings(**told, suffix="screened", verify=5))
    circuits = [result.artefacts["circuit"] for result in (found, exact)]
    assert all(isinstance(circuit, Circuit) for circuit in circuits)
    assert circuits[0].groups == circuits[1].groups  # type: ignore[union-attr]
    for name, stage in found.facts["stages"].items():
        scores, expected = (result["score"].at(stage=name).values for result in (found, exact))
        if name == "value_fetcher":
            assert stage["rerun"] is None
            continue
        assert stage["heads"]
        assert stage["verified"]["difference"] < 1e-5
        assert stage["rerun"] < int((expected != 0).sum())
        assert (scores - expected).abs().max() < NEGLIGIBLE * expected.abs().max()
    (_, stages) = view.tables(found)
    assert [row[stages.columns.index("rerun")] for row in stages.rows] == [
        24, *(found.facts["stages"][name]["rerun"] for name in ("struct_reader", "label_reader"))
    ]  # fmt: skip
    assert any(note.startswith("rerun: ") for note in view.notes(found))
    assert "rerun" not in view.tables(exact)[1].columns
    assert not any(note.startswith("rerun: ") for note in view.notes(exact))


def test_it_says_what_takes_gradients() -> None:
    assert Settings().gradients is None
    assert Settings(suffix="screened").gradients == "method.suffix"
    assert Settings(suffix="screened", screen="attribution:0.5").gradients == "method.screen"
