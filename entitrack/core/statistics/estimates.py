"""Numbers with their 95 % interval: a mean over prompts, the difference of two, their ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from scipy.optimize import brentq
from scipy.stats import t as student
from torch import Tensor

from entitrack.core.statistics import means, shares
from entitrack.core.statistics.contexts import LEAST_CONTEXTS, LEVEL, ContextSums, Values
from entitrack.core.statistics.means import FunctionOfMeans
from entitrack.core.statistics.shares import Ends

FEW_CONTEXTS = "too few contexts"
UNBOUNDED = "unbounded"
NO_RATIO = "no ratio"
NOTHING = "of none"
FEW_REPEATS, ALIKE, NO_NUMBER = "too few runs", "alike in all", "no number in some"
LEAST_REPEATS = 3
"""Repeats of a run that an interval is made of."""
_ONE_SIDED = 0.05
_NO_ENDS = (math.nan, math.nan)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        value: The mean over prompts.
        low: Lower end of the interval; not a number without one.
        high: Upper end of the interval; not a number without one.
        n: Number of prompts.
        without: Why there is no interval; None where there is one.
    """

    value: float
    low: float
    high: float
    n: int
    without: str | None = None

    def __str__(self) -> str:
        """`.66 [.61, .71]`, `.66 [too few contexts]` or `no ratio`."""
        if self.without is None:
            return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"
        return self.without if math.isnan(self.value) else f"{_short(self.value)} [{self.without}]"

    @property
    def margin(self) -> str:
        """Half of the interval's width, `±0.05`; nothing without one."""
        return "" if self.without else f"±{(self.high - self.low) / 2:.2f}"


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def estimate(values: Values, clusters: Int[Tensor, " prompt"]) -> Estimate:
    """Mean of a value over prompts; of truths, the share that is true."""
    sums = ContextSums.of(clusters, values)
    mean = float(sums.means[0])
    if sums.contexts < LEAST_CONTEXTS:
        return Estimate(mean, *_NO_ENDS, len(values), FEW_CONTEXTS)
    interval = shares.share_ends if values.dtype == torch.bool else means.mean_ends
    return Estimate(mean, *interval(sums, LEVEL), len(values))


def is_above(shares_of: Bool[Tensor, " prompt"], clusters: Int[Tensor, " prompt"], number: float) -> bool:
    """Whether a share is above a number, by a one-sided test over contexts at .05: its interval of 90 % is."""
    return shares.share_ends(ContextSums.of(clusters, shares_of), 1 - 2 * _ONE_SIDED)[0] > number


def counted(hits: int, n: int) -> Estimate:
    """Share of n things that are so, each an independent trial; see `shares.exact_ends`."""
    if n == 0:
        return Estimate(math.nan, *_NO_ENDS, 0, NOTHING)
    return Estimate(hits / n, *shares.exact_ends(hits, n, LEVEL), n)


def difference(first: Values, second: Values, clusters: Int[Tensor, " prompt"]) -> Estimate:
    """Mean of `first - second` over the same prompts, with a paired interval."""
    sums = ContextSums.of(clusters, first, second)
    apart = float(sums.means[0] - sums.means[1])
    if sums.contexts < LEAST_CONTEXTS:
        return Estimate(apart, *_NO_ENDS, len(first), FEW_CONTEXTS)
    return Estimate(apart, *_difference_ends(first, second, clusters, LEVEL), len(first))


def _difference_ends(first: Values, second: Values, clusters: Int[Tensor, " prompt"], level: float) -> Ends:
    if first.dtype == second.dtype == torch.bool:
        return shares.difference_ends(ContextSums.of(clusters, first, second), level)
    return means.mean_ends(ContextSums.of(clusters, first.double() - second.double()), level)


def p_value(first: Values, second: Values, clusters: Int[Tensor, " prompt"]) -> float:
    """That of `difference`: the interval of level 1 - p ends at 0. Not a number where there is no interval."""
    change = difference(first, second, clusters)
    if change.without or change.value == 0:
        return math.nan if change.without else 1.0

    def nearer_end(log_p: float) -> float:
        low, high = _difference_ends(first, second, clusters, 1 - math.exp(log_p))
        return low if change.value > 0 else -high

    smallest, largest = math.log(1e-12), math.log(1 - 1e-9)
    if nearer_end(smallest) >= 0:
        return math.exp(smallest)
    return math.exp(brentq(nearer_end, smallest, largest)) if nearer_end(largest) > 0 else 1.0


def ratio(first: Values, second: Values, clusters: Int[Tensor, " prompt"], decimals: int | None = None) -> Estimate:
    """Mean of `first` over mean of `second` on the same prompts, with a paired interval.

    Where the second mean is 0 there is no ratio; where its interval holds 0, the ratio's has no end.

    Args:
        first: The numerator.
        second: The denominator.
        clusters: Context of each prompt.
        decimals: Means are rounded to this many decimals before they are divided, and the interval, which is of the
            ratio as it is, made to hold that; None does not round.
    """
    sums, n = ContextSums.of(clusters, first, second), len(first)
    above, below = (float(mean if decimals is None else mean.round(decimals)) for mean in sums.means)
    if below == 0:
        return Estimate(math.nan, *_NO_ENDS, n, NO_RATIO)
    if sums.contexts < LEAST_CONTEXTS:
        return Estimate(above / below, *_NO_ENDS, n, FEW_CONTEXTS)
    are_shares = first.dtype == second.dtype == torch.bool
    ends = (shares.ratio_ends if are_shares else means.ratio_ends)(sums, LEVEL)
    if ends is None:
        return Estimate(above / below, *_NO_ENDS, n, UNBOUNDED)
    return Estimate(above / below, min(ends[0], above / below), max(ends[1], above / below), n)


def function_of_means(
    function: FunctionOfMeans, series: Sequence[Values], clusters: Int[Tensor, " prompt"]
) -> Estimate:
    """A function of the means of several series over the same prompts, with its jackknife interval.

    For what is neither a mean, nor a difference nor a ratio of two: those have better ones.
    """
    sums, n = ContextSums.of(clusters, *series), len(series[0])
    value = float(function(sums.means[None])[0])
    if sums.contexts < LEAST_CONTEXTS:
        return Estimate(value, *_NO_ENDS, n, FEW_CONTEXTS)
    return Estimate(value, *means.jackknife_ends(sums, function, LEVEL), n)


def over_repeats(values: Sequence[float]) -> Estimate:
    """Mean over repeats of a whole run, such as seeds, with Student's t interval over them.

    Each value is one independent draw, whatever it is a mean of. Fewer than three have no interval: that of two would
    be twelve deviations wide. What has no number in one repeat has none here.
    """
    mean, n = sum(values) / len(values), len(values)
    if math.isnan(mean):
        return Estimate(mean, *_NO_ENDS, n, NO_NUMBER)
    if n < LEAST_REPEATS:
        return Estimate(mean, *_NO_ENDS, n, FEW_REPEATS)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    if deviation == 0:
        return Estimate(mean, *_NO_ENDS, n, ALIKE)
    reach = float(student.ppf((1 + LEVEL) / 2, n - 1)) * deviation / math.sqrt(n)
    return Estimate(mean, mean - reach, mean + reach, n)
