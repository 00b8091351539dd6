"""Attention knockout as a method: what it reports, and what it refuses."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
import torch

from entitrack.errors import UserError
from entitrack.methods import attention_knockout, evaluate
from entitrack.methods.attention_knockout import Edge, Settings
from entitrack.methods.experiment import Experiment


def test_blocking_no_layer_is_the_model(golden_experiment: Experiment) -> None:
    edges = [Edge("last", "correct_object"), Edge("last", "query_label"), Edge("query_label", "prev_query_label")]
    result = attention_knockout.run(golden_experiment, Settings(edges=edges))
    own = evaluate.run(golden_experiment, evaluate.Settings(models=["base"])).answers[0]
    assert list(result.by_edge) == [
        ("last", "correct_object"),
        ("last", "query_label"),
        ("last", attention_knockout.RANDOM),
        ("query_label", "prev_query_label"),
        ("query_label", attention_knockout.RANDOM),
    ]
    for values in result.by_edge.values():
        assert values.shape == (5, 42)
        assert torch.equal(values[-1], own.correct.float())
    assert [len(table.rows) for table in result.tables] == [5, 5]


def test_the_size_of_batches_does_not_matter(golden_experiment: Experiment) -> None:
    settings = Settings(edges=[Edge("query_label", "prev_query_label")], metric="probability")
    one, other = (
        attention_knockout.run(dataclasses.replace(golden_experiment, batch_size=size), settings) for size in (5, 42)
    )
    for edge, values in one.by_edge.items():
        torch.testing.assert_close(values, other.by_edge[edge], atol=1e-5, rtol=0)


def test_random_positions_are_before_the_source_and_not_taken() -> None:
    source = torch.tensor([3, 10, 6])
    taken = torch.tensor([[1, 4, 2], [0, 9, 5]])
    for seed in range(50):
        drawn = attention_knockout.random_positions(Random(seed), source, taken)
        assert ((drawn > 0) & (drawn < source)).all()
        assert not (drawn == taken).any()
    with pytest.raises(UserError, match="control"):
        attention_knockout.random_positions(Random(0), torch.tensor([2]), torch.tensor([[1]]))


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        (Settings(edges=[]), "edges"),
        (Settings(edges=[Edge("query_label", "last")]), "edges"),
        (Settings(edges=[Edge("last", "query_label")] * 2), "edges"),
        (Settings(edges=[Edge("query_label", "nowhere")]), "edges"),
        (Settings(edges=[Edge("last", "query_label")], metric="recovered"), "metric"),
    ],
)
def test_what_cannot_be_is_refused(golden_experiment: Experiment, settings: Settings, place: str) -> None:
    with pytest.raises(UserError, match=place):
        attention_knockout.run(golden_experiment, settings)
