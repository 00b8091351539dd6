"""Contexts drawn anew: for ranks among many series, of which no formula tells how firm they are."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def resampled_means(
    values: Float[Tensor, "... prompt"], clusters: Int[Tensor, " prompt"], resamples: int, seed: int = 0
) -> Float[np.ndarray, "resample ..."]:
    """Means over resampled clusters; every series sees the same resamples.

    Args:
        values: One value a prompt.
        clusters: Cluster of each prompt.
        resamples: How many.
        seed: Seed of the resampling.
    """
    _, index = torch.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    sums = torch.zeros(*values.shape[:-1], count, dtype=torch.float64).index_add_(-1, index, values.double())
    sizes = torch.zeros(count, dtype=torch.float64).index_add_(0, index, torch.ones(len(index), dtype=torch.float64))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    totals = np.tensordot(weights, sums.numpy(), axes=([1], [sums.dim() - 1]))
    size = (weights @ sizes.numpy()).reshape(-1, *[1] * (sums.dim() - 1))
    return totals / size
