"""How far two lists of scores put the same things first."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rank_correlation(one: Float[Tensor, " thing"], other: Float[Tensor, " thing"]) -> float:
    """Spearman's rank correlation; not a number for fewer than two things."""
    if len(one) < 2:
        return float("nan")
    return float(torch.corrcoef(torch.stack([ranked(one), ranked(other)]))[0, 1])


def overlap_of_top(one: Float[Tensor, " thing"], other: Float[Tensor, " thing"], top: int) -> float:
    """Share of the `top` lowest of one list that are among as many lowest of the other."""
    lowest = [set(values.argsort()[:top].tolist()) for values in (one, other)]
    return len(lowest[0] & lowest[1]) / top


def ranked(values: Float[Tensor, " thing"]) -> Float[Tensor, " thing"]:
    """Ranks from 0, ties by their average."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return (below + (equal - 1) / 2).double()
