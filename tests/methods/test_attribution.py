"""First-order scores as a method: agreement is measured as it is named."""

from __future__ import annotations

import pytest
import torch

from entitrack.methods.attribution import Compared, Settings, ranked, run
from entitrack.methods.experiment import Experiment
from entitrack.methods.stages import Stage


def compared(approximate: list[float], exact: list[float]) -> Compared:
    return Compared("s", torch.tensor([approximate]), torch.tensor([exact]), 0.0)


def test_correlation_and_overlap_are_of_ranks() -> None:
    same = compared([-8.0, -1.0, 0.1, 7.0], [-4.0, -3.0, -2.0, -1.0])
    assert same.correlation == pytest.approx(1)
    assert same.overlap(2) == 1
    opposite = compared([4.0, 3.0, 2.0, 1.0], [-4.0, -3.0, -2.0, -1.0])
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.overlap(2) == 0
    assert ranked(torch.tensor([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]


def test_every_stage_is_compared_on_the_same_prompts(golden_experiment: Experiment) -> None:
    stages = [Stage("value_fetcher", "last", "logits", "", 4), Stage("pos_transmitter", "last", "q", "value_fetcher")]
    result = run(golden_experiment, Settings(stages=stages))
    first = result.stages[0]
    assert first.correlation > 0.5
    arrays = result.arrays
    assert torch.equal(arrays["value_fetcher.exact"], first.exact)
    assert first.exact.shape == first.approximate.shape == (4, 6)
    assert len(result.tables[0].rows) == len(result.stages)
