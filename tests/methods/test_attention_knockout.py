"""Attention knockout as a method: what it reports, what it refuses, and what is shown."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest
import torch

from entitrack.core.drawing import RANDOM as RANDOM_HUE
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.attention_knockout.method import random_positions
from entitrack.methods.attention_knockout.settings import Edge, Settings
from entitrack.methods.evaluate.settings import Settings as EvaluateSettings
from entitrack.methods.experiment import Experiment
from entitrack.methods.outcomes import measured
from tests.methods import hand_made


def knockout(experiment: Experiment, settings: Settings) -> Result:
    return run_method("attention_knockout", experiment, settings)


def edges(*pairs: tuple[str, str]) -> list[Edge]:
    return [Edge(source=source, target=target) for source, target in pairs]


def test_blocking_no_layer_is_the_model(golden_experiment: Experiment) -> None:
    pairs = [("last", "correct_object"), ("last", "query_label"), ("query_label", "prev_query_label")]
    result = knockout(golden_experiment, Settings(edges=edges(*pairs)))
    plain = run_method("evaluate", golden_experiment, EvaluateSettings(models=["base"]))
    assert [(edge["source"], edge["target"]) for edge in result.facts["edges"]] == [
        ("last", "correct_object"),
        ("last", "query_label"),
        ("last", None),
        ("query_label", "prev_query_label"),
        ("query_label", None),
    ]
    assert measured(result).names("edge")[1:3] == ("last -> query_label", "last -> a random position")
    assert measured(result).names("first_blocked") == ("0", "1", "2", "3", "none")
    for name in ("correct", "prediction"):
        assert result[name].values.shape == (5, 5, 42)
        for values in result[name].at(first_blocked="none").values:
            assert torch.equal(values, plain[name].at(model="base").values)
    assert set(result.words) == set(result["prediction"].values.unique().tolist())
    assert [len(table.rows) for table in result.tables] == [5, 5]
    assert hand_made.retold(result).tables == result.tables


def test_edges_of_one_source_may_stand_apart(golden_experiment: Experiment) -> None:
    pairs = [("last", "correct_object"), ("query_label", "prev_query_label"), ("last", "query_label")]
    result = knockout(golden_experiment, Settings(edges=edges(*pairs), control=False))
    targets = ["correct_object", "query_label", "prev_query_label"]
    assert [edge["target"] for edge in result.facts["edges"]] == targets
    for pair, number in ((pairs[2], 1), (pairs[1], 2)):
        alone = knockout(golden_experiment, Settings(edges=edges(pair), control=False))
        torch.testing.assert_close(
            result["probability"].at(edge=number).values, alone["probability"].at(edge=0).values, atol=1e-6, rtol=0
        )


def test_the_size_of_batches_does_not_matter(golden_experiment: Experiment) -> None:
    settings = Settings(edges=edges(("query_label", "prev_query_label")), metric="probability")
    one, other = (
        measured(knockout(dataclasses.replace(golden_experiment, batch_size=size), settings)) for size in (5, 42)
    )
    assert one.labels == other.labels
    torch.testing.assert_close(one.values, other.values, atol=1e-5, rtol=0)


def test_random_positions_are_drawn_by_seed(golden_experiment: Experiment) -> None:
    settings = Settings(edges=edges(("last", "query_label")), metric="probability")
    one, same, other = (
        measured(knockout(dataclasses.replace(golden_experiment, seed=seed), settings)) for seed in (1, 1, 2)
    )
    assert torch.equal(one.values, same.values)
    assert torch.equal(one.at(edge=0).values, other.at(edge=0).values)
    assert not torch.equal(one.at(edge=1).values, other.at(edge=1).values)


def test_prompts_are_padded_on_the_right_whatever_is_set(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []
    encode = Experiment.encoded

    def noted(self: Experiment, prompts: Any) -> Any:
        sides.append(self.padding)
        return encode(self, prompts)

    monkeypatch.setattr(Experiment, "encoded", noted)
    settings = Settings(edges=edges(("last", "query_label")))
    knockout(dataclasses.replace(golden_experiment, padding="left"), settings)
    assert sides == ["right"]


def test_random_positions_are_before_the_source_and_not_taken() -> None:
    source = torch.tensor([3, 10, 6])
    taken = torch.tensor([[1, 4, 2], [0, 9, 5]])
    for seed in range(50):
        drawn = random_positions(Random(seed), source, taken)
        assert ((drawn > 0) & (drawn < source)).all()
        assert not (drawn == taken).any()
    with pytest.raises(UserError, match="control"):
        random_positions(Random(0), torch.tensor([2]), torch.tensor([[1]]))


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ([("query_label", "last")], r": 'last' is not before 'query_label'"),
        ([("last", "last")], r"\.0: 'last' is not before itself"),
        ([("last", "query_label")] * 2, r"\.1: 'last' to 'query_label' is there twice"),
        ([("query_label", "nowhere")], r"\.0\.target: the task has no role 'nowhere'; available: "),
    ],
)
def test_what_cannot_be_blocked_is_refused(
    golden_experiment: Experiment, pairs: list[tuple[str, str]], problem: str
) -> None:
    with pytest.raises(UserError, match=rf"method\.edges{problem}"):
        knockout(golden_experiment, Settings(edges=edges(*pairs)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"edges": []}, r"method\.edges: "),
        ({"edges": [{"source": "last"}]}, r"method\.edges\.0\.target: has no value"),
        ({"metric": "recovered"}, r"method\.metric: unknown metric 'recovered'; available: accuracy, probability"),
    ],
)
def test_a_setting_that_cannot_be_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**values)


PROBABILITY = [
    [[0.1, 0.3], [0.4, 0.4], [0.6, 0.8]],
    [[0.5, 0.7], [0.7, 0.7], [0.6, 0.8]],
    [[0.2, 0.2], [0.3, 0.3], [0.6, 0.8]],
]
"""Of three edges, by first blocked layer, on two prompts."""


def result() -> Result:
    listed = [
        {"source": "end", "target": "object"},
        {"source": "end", "target": None},
        {"source": "label", "target": "object"},
    ]
    layers = ("0", "1", "none")
    values = hand_made.measured(PROBABILITY, "edge first_blocked", hand_made.prompts(2), first_blocked=layers)
    facts = {"model": "a", "metric": "probability", "edges": listed}
    return hand_made.laid_out("attention_knockout", facts, {"probability": values})


def test_tables_show_what_was_measured() -> None:
    end, label = result().tables
    assert end.title == "a, what end no longer sees; F is probability [95 %], n = 2"
    assert end.columns == ("layers blocked", "object", "a random position")
    assert hand_made.rows(end) == [["from 0", 0.2, 0.6], ["from 1", 0.4, 0.7], ["none", 0.7, 0.7]]
    assert label.title == "a, what label no longer sees; F is probability [95 %], n = 2"
    assert label.columns == ("layers blocked", "object")
    assert hand_made.rows(label) == [["from 0", 0.2], ["from 1", 0.3], ["none", 0.7]]


def test_the_figure_draws_a_curve_an_edge() -> None:
    first, second = hand_made.plots(result())
    assert [panel.title for panel in (first, second)] == ["end → object", "label → object"]
    for panel, blocked, control in ((first, [0.2, 0.4, 0.7], [0.6, 0.7, 0.7]), (second, [0.2, 0.3, 0.7], None)):
        assert panel.x_names == ("0", "1", "none")
        edge, *random = panel.curves
        assert hand_made.places(edge) == [(number, pytest.approx(value)) for number, value in enumerate(blocked)]
        assert [[entry.y for entry in curve.points] for curve in random] == (
            [pytest.approx(control)] if control else []
        )
        assert all(curve.line == "dotted" and curve.hue == RANDOM_HUE for curve in random)


def test_an_edge_to_a_random_position_alone_has_a_panel() -> None:
    values = hand_made.measured(
        [[[0.5, 1.0]] * 2], "edge first_blocked", hand_made.prompts(2), first_blocked=("0", "none")
    )
    facts = {"model": "a", "metric": "probability", "edges": [{"source": "end", "target": None}]}
    (panel,) = hand_made.plots(hand_made.laid_out("attention_knockout", facts, {"probability": values}))
    assert panel.title == "end → a random position"
    assert panel.y_limits == (0, 1.02)
