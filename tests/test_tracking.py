"""What reaches W&B."""

from __future__ import annotations

import torch

from entitrack.tracking import curve_points


def test_curves_of_unlike_steps_are_laid_side_by_side() -> None:
    curves = {
        "loss": (torch.tensor([1, 2, 3]), torch.tensor([3.0, 2.0, 1.0])),
        "accuracy": (torch.tensor([2]), torch.tensor([0.5])),
    }
    expected = [{}, {"loss": 3.0}, {"loss": 2.0, "accuracy": 0.5}, {"loss": 1.0}]
    assert curve_points(curves) == expected
    assert curve_points({}) == []
