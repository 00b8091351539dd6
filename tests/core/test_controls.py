"""A number beside random controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from entitrack.core.statistics.controls import different, rank_p

DRAWN = np.array([0.1, 0.2, 0.2, 0.3])


@pytest.mark.parametrize(
    ("own", "towards", "expected"),
    [(0.4, 1, 1 / 5), (0.3, 1, 2 / 5), (0.2, 1, 4 / 5), (0.0, 1, 1.0), (0.0, -1, 1 / 5), (0.2, -1, 4 / 5)],
)
def test_ties_count_against_it_and_it_counts_itself(own: float, towards: int, expected: float) -> None:
    assert rank_p(own, DRAWN, towards) == pytest.approx(expected)


def test_what_comes_again_is_left_out() -> None:
    sets = torch.tensor([[True, False], [False, True], [True, False], [False, False]])
    assert different(sets).tolist() == [0, 1, 3]
