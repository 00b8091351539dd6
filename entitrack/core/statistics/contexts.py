"""Sums by context, and how much means over prompts vary where whole contexts are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import ndtri, stdtrit
from torch import Tensor

LEVEL = 0.95
"""Of every interval that is printed."""
LEAST_CONTEXTS = 10
"""With fewer contexts no interval covers as it says, so none is given."""

Values = Bool[Tensor, " prompt"] | Float[Tensor, " prompt"]
"""One value a prompt: truths, whose mean is a share, or numbers."""


@dataclass(frozen=True)
class ContextSums:
    """Series of values over the same prompts, summed within contexts.

    Attributes:
        sums: Sum of each series in each context.
        sizes: Number of prompts in each context.
    """

    sums: Float[np.ndarray, "series context"]
    sizes: Float[np.ndarray, " context"]

    @staticmethod
    def of(clusters: Int[Tensor, " prompt"], *series: Values) -> ContextSums:
        """Sum values by prompt within the contexts that these name."""
        _, context = np.unique(clusters.numpy(), return_inverse=True)
        sums = [np.bincount(context, weights=values.double().numpy()) for values in series]
        return ContextSums(np.stack(sums), np.bincount(context).astype(float))

    @property
    def contexts(self) -> int:
        """Number of contexts."""
        return len(self.sizes)

    @cached_property
    def prompts(self) -> float:
        """Number of prompts."""
        return float(self.sizes.sum())

    @cached_property
    def size(self) -> float:
        """Number of prompts of a prompt's context, on average: the design effect where a context's prompts agree."""
        return float((self.sizes**2).sum() / self.prompts)

    @cached_property
    def means(self) -> Float[np.ndarray, " series"]:
        """Means over prompts."""
        means: np.ndarray = self.sums.sum(1) / self.prompts
        return means

    @cached_property
    def covariance(self) -> Float[np.ndarray, "series series"]:
        """Of the means, over contexts (cluster-robust, with the correction for few)."""
        residuals = self.sums - self.means[:, None] * self.sizes
        correction = self.contexts / (self.contexts - 1) if self.contexts > 1 else math.inf
        covariance: np.ndarray = residuals @ residuals.T * correction / self.prompts**2
        return covariance

    @property
    def correlation(self) -> float:
        """Of the means of the two series; 0 where one does not vary.

        It is drawn towards 0 by a pseudo-context, so that even with itself it is below 1: two series that agree on
        these prompts need not agree on all.
        """
        variances = float(self.covariance[0, 0] * self.covariance[1, 1])
        if variances <= 0:
            return 0.0
        return float(self.covariance[0, 1]) / math.sqrt(variances) * self.contexts / (self.contexts + 1)


def normal_quantile(level: float) -> float:
    """How many standard deviations either way hold that share of a normal distribution."""
    return float(ndtri((1 + level) / 2))


def t_quantile(level: float, contexts: int) -> float:
    """The same of Student's t, with one degree of freedom less than there are contexts."""
    return float(stdtrit(contexts - 1, (1 + level) / 2))


def standard_error(values: Float[Tensor, "prompt ..."], clusters: Int[Tensor, " prompt"]) -> Float[Tensor, "..."]:
    """Standard error of the mean over prompts, with clusters as the independent units; infinite for one cluster."""
    _, index = torch.unique(clusters, return_inverse=True)
    count = int(index.max()) + 1
    if count < 2:
        return torch.full(values.shape[1:], math.inf)
    deviations = values.double() - values.double().mean(0)
    sums = torch.zeros(count, *values.shape[1:], dtype=torch.float64).index_add_(0, index, deviations)
    return ((sums**2).sum(0) * count / (count - 1)).sqrt().float() / len(values)
