"""Measurements: every entry has its own estimates, and truths are shares."""

from __future__ import annotations

import pytest
import torch

from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.statistics.estimates import difference, estimate, p_value, ratio
from tests.methods import hand_made

VALUES = [[0.1, 0.3, 0.2, 0.8] * 3, [0.5, 0.6, 0.9, 0.7] * 3, [0.204] * 12]


def test_every_entry_has_its_own_estimates() -> None:
    facets = {"a": [0, 1, 0, 1] * 3, "b": [0, 0, 1, 1] * 3}
    measured = hand_made.measured(VALUES, "model", hand_made.prompts(12, facets), model=("x", "y", "z"))
    rows, clusters = torch.tensor(VALUES).double(), torch.arange(12)
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


def test_truths_are_shares_whatever_is_taken_of_them() -> None:
    on = hand_made.prompts(24, {"a": [0, 1] * 12})
    measured = hand_made.measured([[True] * 24, [True, False] * 12], "repeat", on)
    every, shares = torch.arange(24), torch.tensor([[True] * 24, [True, False] * 12])
    assert measured.estimate(repeat=0) == estimate(shares[0], every) != estimate(shares[0].double(), every)
    assert measured.pooled("repeat").estimate() == estimate(shares.flatten(), every.repeat(2))
    assert measured.where("a", 1).estimate(repeat=1) == estimate(torch.zeros(12, dtype=torch.bool), torch.arange(12))
    assert measured.p_value({"repeat": 0}, {"repeat": 1}) == p_value(shares[0], shares[1], every)


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
