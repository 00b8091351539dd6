"""How far sets overlap, beside what chance gives: sets of the same sizes, drawn from the same things.

1. Things are of strata (heads at one role or another); a set has so many of each stratum, and random sets have as many.
2. How many things two random sets share is hypergeometric in a stratum; over strata such numbers add up.
3. The p-value is the chance that two random sets share as many as the two in question, or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import gammaln

from entitrack.core.statistics.estimates import Estimate, counted

_DRAWS, _AT_ONCE = 2000, 100
"""Of random sets, where no formula gives what chance does; p-values are not below 1 in as many."""
_ROUNDING = 1e-12
"""Overlaps that are as far apart are alike."""


@dataclass(frozen=True)
class Stratum:
    """Things of one kind, and how many of them two sets have.

    Attributes:
        things: How many there are.
        first: How many of them the first set has.
        second: How many the second has.
    """

    things: int
    first: int
    second: int

    @property
    def shared(self) -> Float[np.ndarray, " count"]:
        """Probability that random sets of these sizes share 0, 1, 2, ... things."""
        least, most = max(0, self.first + self.second - self.things), min(self.first, self.second)
        counts = np.arange(least, most + 1)
        logs = (
            _log_choose(self.first, counts)
            + _log_choose(self.things - self.first, self.second - counts)
            - _log_choose(self.things, np.array([self.second]))
        )
        probabilities = np.zeros(most + 1)
        probabilities[counts] = np.exp(logs)
        return probabilities


@dataclass(frozen=True)
class Overlap:
    """Two sets, by how much they have in common.

    Attributes:
        strata: How many things of each kind they have.
        shared: How many things both have.
    """

    strata: tuple[Stratum, ...]
    shared: int

    @property
    def sizes(self) -> tuple[int, int]:
        """How many things each has."""
        return sum(each.first for each in self.strata), sum(each.second for each in self.strata)

    @property
    def jaccard(self) -> Estimate:
        """Share of the things of either that both have."""
        return counted(self.shared, sum(self.sizes) - self.shared)

    @property
    def of_smaller(self) -> Estimate:
        """Share of the smaller set's things that the other has, too."""
        return counted(self.shared, min(self.sizes))

    @cached_property
    def chances(self) -> Float[np.ndarray, " count"]:
        """Probability that random sets of these sizes share 0, 1, 2, ... things."""
        chances: np.ndarray = reduce(np.convolve, (each.shared for each in self.strata), np.ones(1))
        return chances

    @property
    def by_chance(self) -> float:
        """How many things random sets share on average."""
        return float(self.chances @ np.arange(len(self.chances)))

    @property
    def jaccard_by_chance(self) -> float:
        """Mean of `jaccard` over random sets; not a number for two sets of nothing."""
        either = sum(self.sizes) - np.arange(len(self.chances))
        if not sum(self.sizes):
            return math.nan
        return float(self.chances @ (np.arange(len(self.chances)) / either))

    @property
    def p_value(self) -> float:
        """Chance that random sets share as much, or more."""
        return min(1.0, float(self.chances[self.shared :].sum()))


def mean_jaccard(members: Bool[np.ndarray, "*draw set thing"]) -> Float[np.ndarray, "*draw"]:
    """Mean over pairs of sets of the share of things of either that both have; two sets of nothing are no pair.

    Not a number without a pair.
    """
    inside, sizes = members.astype(float), members.sum(-1).astype(float)
    one, other = np.triu_indices(members.shape[-2], 1)
    both = (inside @ inside.swapaxes(-1, -2))[..., one, other]
    either = sizes[..., one] + sizes[..., other] - both
    shares = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    pairs = (either > 0).sum(-1)
    return np.divide(shares.sum(-1), pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)


@dataclass(frozen=True)
class Agreement:
    """How far several sets agree.

    Attributes:
        jaccard: See `mean_jaccard`.
        by_chance: The same of random sets of these sizes, on average.
        p_value: Chance that random sets agree as much, or more.
    """

    jaccard: float
    by_chance: float
    p_value: float


def agreement(members: Bool[np.ndarray, "set thing"], seed: int = 0) -> Agreement:
    """How far sets agree, beside random sets of the same sizes; of which no formula tells, so they are drawn.

    Pairs of several sets are not independent: sets are drawn together, and their mean overlap compared.
    """
    jaccard, things, sizes = float(mean_jaccard(members)), members.shape[1], members.sum(1).tolist()
    if math.isnan(jaccard):
        return Agreement(jaccard, jaccard, jaccard)
    pairs = [Overlap((Stratum(things, *pair),), 0) for pair in combinations(sizes, 2) if any(pair)]
    by_chance = float(np.mean([pair.jaccard_by_chance for pair in pairs]))
    drawn = random_agreements(things, sizes, seed)
    as_much = int((drawn >= jaccard - _ROUNDING).sum())
    return Agreement(jaccard, by_chance, (1 + as_much) / (1 + len(drawn)))


def random_agreements(things: int, sizes: Sequence[int], seed: int) -> Float[np.ndarray, " draw"]:
    """`mean_jaccard` of random sets of these sizes, drawn again and again."""
    random, bounds = np.random.default_rng(seed), np.array(sizes)[:, None]
    found = []
    for _ in range(_DRAWS // _AT_ONCE):
        ranks = random.permuted(np.tile(np.arange(things), (_AT_ONCE, len(sizes), 1)), axis=-1)
        found.append(mean_jaccard(ranks < bounds))
    return np.concatenate(found)


def _log_choose(things: int, chosen: np.ndarray) -> np.ndarray:
    """Logarithm of the number of ways to choose so many of so many things."""
    ways: np.ndarray = gammaln(things + 1) - gammaln(chosen + 1) - gammaln(things - chosen + 1)
    return ways
