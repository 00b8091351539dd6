"""Intervals of values that are no shares (probabilities, logit differences): cluster-robust, with Student's t.

A mean and a difference have the mean of the contexts' deviations and one degree of freedom less than contexts; a ratio
has Fieller's interval, the ratios R at which the interval of first - R * second holds 0. Any other function of means
has that of the jackknife, which leaves out one context after another, with the same degrees of freedom. Values that are
the same on all prompts have an interval of no width: nothing bounds what they might have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from entitrack.core.statistics.contexts import ContextSums, t_quantile
from entitrack.core.statistics.shares import Ends

FunctionOfMeans = Callable[[Float[np.ndarray, "case series"]], Float[np.ndarray, " case"]]
"""Of the means of some series, a number; for many cases at once."""


def mean_ends(sums: ContextSums, level: float) -> Ends:
    """Ends of the interval of a mean."""
    half = t_quantile(level, sums.contexts) * math.sqrt(sums.covariance[0, 0])
    return float(sums.means[0]) - half, float(sums.means[0]) + half


def ratio_ends(sums: ContextSums, level: float) -> Ends | None:
    """Ends of the interval of the first mean over the second; None where the second may be 0."""
    (first, second), squared = (float(mean) for mean in sums.means), t_quantile(level, sums.contexts) ** 2
    bottom = second**2 - squared * float(sums.covariance[1, 1])
    if not bottom > 0:
        return None
    product = first * second - squared * float(sums.covariance[0, 1])
    top = first**2 - squared * float(sums.covariance[0, 0])
    root = math.sqrt(max(0.0, product**2 - bottom * top))
    return (product - root) / bottom, (product + root) / bottom


def jackknife_ends(sums: ContextSums, function: FunctionOfMeans, level: float) -> Ends:
    """Ends of the interval of a function of the means."""
    value = float(function(sums.means[None])[0])
    totals, left = sums.sums.sum(1)[:, None] - sums.sums, sums.prompts - sums.sizes
    without_one = function((totals / left).T)
    deviations = without_one - without_one.mean()
    error = math.sqrt(float((deviations**2).sum()) * (sums.contexts - 1) / sums.contexts)
    half = t_quantile(level, sums.contexts) * error
    return value - half, value + half
