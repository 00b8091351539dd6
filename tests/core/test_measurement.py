"""Measurements: estimates are each their own however often and in whatever order they are asked for."""

from __future__ import annotations

import pytest
import torch

from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.stats import difference, estimate, ratio
from tests.methods import hand_made

VALUES = [[0.1, 0.3, 0.2, 0.8], [0.5, 0.6, 0.9, 0.7], [0.204, 0.204, 0.204, 0.204]]


def test_what_is_remembered_is_not_taken_for_something_else() -> None:
    facets = {"a": [0, 1, 0, 1], "b": [0, 0, 1, 1]}
    measured = hand_made.measured(VALUES, "model", hand_made.prompts(4, facets), model=("x", "y", "z"))
    rows, clusters = torch.tensor(VALUES).double(), torch.arange(4)
    for _ in range(2):
        for first in range(3):
            assert measured.estimate(model=first) == estimate(rows[first], clusters)
            for second in range(3):
                ends = ({"model": first}, {"model": second})
                pair = (rows[first], rows[second], clusters)
                assert measured.difference(*ends) == difference(*pair)
                assert measured.ratio(*ends) == ratio(*pair)
                assert measured.ratio(*ends, decimals=1) == ratio(*pair, decimals=1)
        for facet, values in facets.items():
            for value in (0, 1):
                chosen = torch.tensor(values) == value
                assert torch.equal(measured.where(facet, value).values.double(), rows[:, chosen])
    assert measured.estimate(model="y") == measured.estimate(model=1)
    assert measured.means(model=1).item() == pytest.approx(0.675)
    assert measured.means().tolist() == pytest.approx([0.35, 0.675, 0.204])


def test_contexts_of_joined_sets_stay_apart() -> None:
    first = PromptSet(("a", "b", "c"), ("x", "y", "z"), torch.tensor([0, 0, 2]), {"n": torch.tensor([1, 2, 3])})
    second = PromptSet(("d", "e"), ("v", "w"), torch.tensor([0, 1]), {"n": torch.tensor([4, 5])})
    joined = PromptSet.joined([first, second])
    assert (joined.texts, joined.answers) == (("a", "b", "c", "d", "e"), ("x", "y", "z", "v", "w"))
    assert joined.clusters.tolist() == [0, 0, 2, 3, 4]
    assert joined.facets["n"].tolist() == [1, 2, 3, 4, 5]


def test_measurements_are_equal_to_the_bit_and_about_the_same_prompts() -> None:
    def measured(values: list[float], on: PromptSet, *names: str) -> Measurement:
        return hand_made.measured([values], "model", on, model=names)

    on = hand_made.prompts(2, {"a": [0, 1]})
    one = measured([0.5, torch.nan], on, "x")
    assert one == measured([0.5, torch.nan], hand_made.prompts(2, {"a": [0, 1]}), "x")
    assert one != measured([0.25, torch.nan], on, "x")
    assert one != measured([0.5, 0.5], on, "x")
    assert one != measured([0.5, torch.nan], on, "y")
    assert one != measured([0.5, torch.nan], hand_made.prompts(2, {"a": [0, 2]}), "x")
    assert one != measured([0.5, torch.nan], hand_made.prompts(2), "x")
    assert one != Measurement(one.values.double(), one.axes, one.labels, one.prompts)
