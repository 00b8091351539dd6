"""Estimates with their uncertainty: prompts of one context are not independent, so whole contexts are resampled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

RESAMPLES = 2000
_LEVEL = 0.95
_Z = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean over prompts.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of prompts.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """`.66 [.61, .71]`."""
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def bootstrap_means(
    values: Float[Tensor, "... prompt"], clusters: Int[Tensor, " prompt"], seed: int = 0, resamples: int = RESAMPLES
) -> Float[np.ndarray, "resample ..."]:
    """Means over resampled clusters; every series sees the same resamples, so differences are paired.

    Args:
        values: One value a prompt.
        clusters: Cluster of each prompt.
        seed: Seed of the resampling.
        resamples: How many.
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


def estimate(values: Float[Tensor, " prompt"], clusters: Int[Tensor, " prompt"], seed: int = 0) -> Estimate:
    """Mean of a value over prompts, with a cluster-bootstrap interval.

    Where no resample differs (all prompts right, say) the bootstrap would claim certainty; for shares the Wilson
    interval over clusters is given then.
    """
    mean, n = float(values.double().mean()), len(values)
    means = bootstrap_means(values, clusters, seed)
    tail = (1 - _LEVEL) / 2
    low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    if high - low < 1e-12 and mean in (0.0, 1.0):
        low, high = _wilson(mean, len(torch.unique(clusters)))
    return Estimate(mean, low, high, n)


def difference(
    first: Float[Tensor, " prompt"], second: Float[Tensor, " prompt"], clusters: Int[Tensor, " prompt"], seed: int = 0
) -> Estimate:
    """Mean of `first - second` over the same prompts, with a paired interval."""
    values = first.double() - second.double()
    means = bootstrap_means(values, clusters, seed)
    tail = (1 - _LEVEL) / 2
    low, high = (float(end) for end in np.quantile(means, [tail, 1 - tail]))
    return Estimate(float(values.mean()), low, high, len(values))


def ratio(
    first: Float[Tensor, " prompt"],
    second: Float[Tensor, " prompt"],
    clusters: Int[Tensor, " prompt"],
    seed: int = 0,
    decimals: int | None = None,
) -> Estimate:
    """Mean of `first` over mean of `second` on the same prompts, with a paired interval.

    Resamples in which the second mean is 0 are left out; where it is 0 on all prompts, all of it is not a number.

    Args:
        first: The numerator.
        second: The denominator.
        clusters: Cluster of each prompt.
        seed: Seed of the resampling.
        decimals: Means are rounded to this many decimals before they are divided; None does not round.
    """
    both = torch.stack([first.double(), second.double()])
    means = bootstrap_means(both, clusters, seed)
    whole = both.mean(1).numpy()
    if decimals is not None:
        means, whole = means.round(decimals), whole.round(decimals)
    usable = means[means[:, 1] != 0]
    if whole[1] == 0 or not len(usable):
        return Estimate(math.nan, math.nan, math.nan, len(first))
    tail = (1 - _LEVEL) / 2
    low, high = (float(end) for end in np.quantile(usable[:, 0] / usable[:, 1], [tail, 1 - tail]))
    return Estimate(float(whole[0] / whole[1]), low, high, len(first))


def standard_error(values: Float[Tensor, "prompt ..."], clusters: Int[Tensor, " prompt"]) -> Float[Tensor, "..."]:
    """Standard error of the mean over prompts, with clusters as the independent units; infinite for one cluster."""
    _, index = torch.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    if count < 2:
        return torch.full(values.shape[1:], math.inf)
    deviations = values.double() - values.double().mean(0)
    sums = torch.zeros(count, *values.shape[1:], dtype=torch.float64).index_add_(0, index, deviations)
    return ((sums**2).sum(0) * count / (count - 1)).sqrt().float() / len(values)


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
