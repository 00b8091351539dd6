"""Intervals of shares: how often something is so, by how much more often, and how many times as often.

1. A share has Wilson's score interval, with the number of prompts that would say as much if they were independent.
2. That number is n / deff; the design effect is the cluster-robust variance over the binomial one. Where few prompts
   are the exception it is next to unknown, so it is drawn towards that of a correlation of .25 within contexts.
3. Differences and ratios put the intervals of both shares together (MOVER: square and add; Newcombe 1998, Donner and
   Zou 2012), with the correlation of both.

No interval has zero width: that all of 84 are right does not say that all are.
"""

from __future__ import annotations

import math

from scipy.special import betaincinv

from entitrack.core.statistics.contexts import ContextSums, normal_quantile

Ends = tuple[float, float]
"""Lower and upper end of an interval."""

_PRIOR_CORRELATION = 0.25
_PRIOR_WEIGHT = 0.5
"""In contexts: as many full ones of the rarer outcome say as much about the design effect as was assumed. With less,
the first exception would lower the upper end of an interval rather than raise it."""


def share_ends(sums: ContextSums, level: float, series: int = 0) -> Ends:
    """Ends of the interval of a share."""
    return wilson(float(sums.means[series]), effective_size(sums, series), normal_quantile(level))


def effective_size(sums: ContextSums, series: int = 0) -> float:
    """As how many independent prompts these count: never more than there are, nor less than the contexts allow."""
    share, n = float(sums.means[series]), sums.prompts
    exceptions = min(share, 1 - share) * n
    assumed = 1 + (sums.size - 1) * _PRIOR_CORRELATION
    binomial = share * (1 - share) / n
    seen = float(sums.covariance[series, series]) / binomial if binomial > 0 else assumed
    weight = _PRIOR_WEIGHT * sums.size
    effect = (exceptions * seen + weight * assumed) / (exceptions + weight)
    return n / min(max(effect, 1.0), sums.size)


def wilson(share: float, n: float, z: float) -> Ends:
    """Wilson's score interval of a share of n independent trials."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)


def exact_ends(hits: int, n: int, level: float) -> Ends:
    """Clopper and Pearson's interval of a share of n independent trials: it covers at least as it says, however few."""
    tail = (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def difference_ends(sums: ContextSums, level: float) -> Ends:
    """Ends of the interval of the first share minus the second."""
    first, second = (float(mean) for mean in sums.means)
    (low1, high1), (low2, high2) = (share_ends(sums, level, series) for series in (0, 1))
    apart = first - second
    below = _added(first - low1, high2 - second, sums.correlation)
    above = _added(high1 - first, second - low2, sums.correlation)
    return apart - below, apart + above


def _added(one: float, other: float, correlation: float) -> float:
    """Distances to the ends of two intervals, squared and added."""
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))


def ratio_ends(sums: ContextSums, level: float) -> Ends:
    """Ends of the interval of the first share over the second, which is not 0.

    They are the ratios R at which the interval of first - R * second ends at 0.
    """
    first, second = (float(mean) for mean in sums.means)
    (low1, high1), (low2, high2) = (share_ends(sums, level, series) for series in (0, 1))
    correlation = sums.correlation
    product = first * second - correlation * (first - low1) * (high2 - second)
    bottom, top = high2 * (2 * second - high2), low1 * (2 * first - low1)
    # The smaller root of bottom R^2 - 2 product R + top, written so that `bottom` may be 0 or negative.
    denominator = product + math.sqrt(max(0.0, product**2 - bottom * top))
    low = top / denominator if denominator > 0 else 0.0
    product = first * second - correlation * (high1 - first) * (second - low2)
    bottom, top = low2 * (2 * second - low2), high1 * (2 * first - high1)
    high = (product + math.sqrt(max(0.0, product**2 - bottom * top))) / bottom
    return low, high
