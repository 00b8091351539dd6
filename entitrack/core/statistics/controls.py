"""A number beside those of random controls: how many do as well."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def rank_p(own: float, drawn: Float[np.ndarray, " draw"], towards: int = 1) -> float:
    """Share of controls, counting what they are held against, that are at least as far: never 0.

    Args:
        own: What is held against them.
        drawn: The controls' values; each of another control, for one that is drawn twice is no second witness.
        towards: 1 if more is further, -1 if less is.
    """
    return (1 + int((towards * drawn >= towards * own).sum())) / (1 + len(drawn))


def different(sets: Bool[Tensor, "set ..."]) -> Int[Tensor, " different"]:
    """Numbers of the sets that are none of those before them: one that comes again is no second witness."""
    first: dict[bytes, int] = {}
    for number, one in enumerate(sets):
        first.setdefault(one.numpy().tobytes(), number)
    return torch.tensor(list(first.values()), dtype=torch.long)
