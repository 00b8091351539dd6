"""The shape checker is on: a wrong shape fails where it is passed, not three functions later."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from entitrack.core.statistics.estimates import estimate
from entitrack.engine.layout import window_mask
from entitrack.methods.outcomes import Outcomes


def test_a_wrong_shape_is_refused() -> None:
    slots, before = torch.zeros(2, 1, 1, 3, dtype=torch.long), torch.ones(2, 1, 1, 3, 5, dtype=torch.bool)
    assert window_mask(slots, before, (2, 1, 1, 3), 9, torch.float32).shape == (2, 1, 3, 8)
    with pytest.raises(TypeCheckError, match="window_mask"):
        window_mask(slots, before[:, :, :, :2], (2, 1, 1, 3), 9, torch.float32)
    with pytest.raises(TypeCheckError, match="estimate"):
        estimate(torch.zeros(4), torch.zeros(3, dtype=torch.long))


def test_a_field_of_a_record_is_checked_too() -> None:
    with pytest.raises(TypeCheckError, match="Outcomes"):
        Outcomes(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool), torch.zeros(3), torch.zeros(2))
