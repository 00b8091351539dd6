"""What reaches W&B."""

from __future__ import annotations

import torch

from entitrack.core.result import Result
from entitrack.record.tracking import curve_points, learning_curves
from tests.methods import hand_made


def test_curves_of_unlike_steps_are_laid_side_by_side() -> None:
    curves = {
        "loss": (torch.tensor([1, 2, 3]), torch.tensor([3.0, 2.0, 1.0])),
        "accuracy": (torch.tensor([2]), torch.tensor([0.5])),
    }
    expected = [{}, {"loss": 3.0}, {"loss": 2.0, "accuracy": 0.5}, {"loss": 1.0}]
    assert curve_points(curves) == expected
    assert curve_points({}) == []


def test_measurements_along_steps_are_learning_curves() -> None:
    losses = hand_made.measured([[4.0, 3.0, 2.0], [8.0, 7.0, torch.nan]], "mask step", mask="ab", step=["1", "2", "3"])
    masks = hand_made.measured([[0.5, 1.0]], "step head", step=["1"])
    at_the_end = hand_made.measured([0.25], "step", step=["3"])
    curves = learning_curves(Result("dcm", {}, {"loss": losses, "mask": masks, "validation": at_the_end}))
    assert curve_points(curves) == [
        {},
        {"loss/a": 4.0, "loss/b": 8.0},
        {"loss/a": 3.0, "loss/b": 7.0},
        {"loss/a": 2.0, "validation": 0.25},
    ]
