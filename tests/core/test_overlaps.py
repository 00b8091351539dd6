"""Overlaps of sets beside chance, held to counting all sets there are."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from entitrack.core.statistics.estimates import counted
from entitrack.core.statistics.overlaps import Overlap, Stratum, agreement, mean_jaccard, random_agreements


def one(things: int, first: int, second: int, shared: int) -> Overlap:
    return Overlap((Stratum(things, first, second),), shared)


@pytest.mark.parametrize(("things", "first", "second"), [(6, 2, 3), (5, 4, 4), (4, 0, 2), (3, 3, 3), (6, 5, 2)])
def test_chance_is_what_all_sets_there_are_give(things: int, first: int, second: int) -> None:
    """The first set may be any: against all second sets of its size."""
    here = set(range(first))
    counts = [len(here & set(other)) for other in combinations(range(things), second)]
    jaccards = [count / (first + second - count) for count in counts]
    for shared in range(max(0, first + second - things), min(first, second) + 1):
        found = one(things, first, second, shared)
        assert found.by_chance == pytest.approx(np.mean(counts))
        assert found.jaccard_by_chance == pytest.approx(np.mean(jaccards))
        assert found.p_value == pytest.approx(np.mean([count >= shared for count in counts]))


def test_strata_keep_their_sizes() -> None:
    """Two of five at one place and three of four at another: all pairs of such sets."""
    sets = list(product(combinations(range(5), 2), combinations(range(5, 9), 3)))
    whole = [set(near) | set(far) for near, far in sets]
    counts = [len(whole[0] & other) for other in whole]
    for shared in range(2, 6):
        found = Overlap((Stratum(5, 2, 2), Stratum(4, 3, 3)), shared)
        assert found.p_value == pytest.approx(np.mean([count >= shared for count in counts]))
        assert found.by_chance == pytest.approx(np.mean(counts))
        assert found.jaccard.value == pytest.approx(shared / (10 - shared))
        assert found.of_smaller.value == shared / 5


def test_many_things_are_scipys() -> None:
    found, chance = one(1024, 40, 30, 5), stats.hypergeom(1024, 40, 30)
    assert found.p_value == pytest.approx(chance.sf(4), rel=1e-9)
    assert found.by_chance == pytest.approx(chance.mean())


def test_sets_of_nothing_share_nothing() -> None:
    empty = one(24, 0, 0, 0)
    assert math.isnan(empty.jaccard.value)
    assert math.isnan(empty.jaccard_by_chance)
    assert (empty.by_chance, empty.p_value, str(empty.jaccard)) == (0.0, 1.0, "of none")
    half = one(24, 3, 0, 0)
    assert (half.jaccard.value, half.jaccard_by_chance, str(half.of_smaller)) == (0.0, 0.0, "of none")


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 5), (5, 5), (13, 16), (1, 1)])
def test_the_interval_of_few_is_clopper_and_pearsons(hits: int, n: int) -> None:
    found = counted(hits, n)
    low, high = proportion_confint(hits, n, method="beta")
    assert (found.value, found.n) == (hits / n, n)
    assert found.low == pytest.approx(0 if hits == 0 else low)
    assert found.high == pytest.approx(1 if hits == n else high)


def members(*sets: set[int], things: int = 8) -> np.ndarray:
    return np.array([[thing in each for thing in range(things)] for each in sets])


def test_the_overlap_of_several_is_the_mean_over_pairs() -> None:
    some = members({0, 1}, {0, 1}, {1, 2}, set())
    assert mean_jaccard(some) == pytest.approx((1 + 1 / 3 + 1 / 3 + 0 + 0 + 0) / 6)
    assert math.isnan(mean_jaccard(members(set(), set())))
    assert math.isnan(mean_jaccard(members({1})))
    assert math.isnan(agreement(members(set(), set())).p_value)


def test_chance_of_several_is_that_of_their_pairs() -> None:
    """Two sets have a formula, to which drawing them is held; of three, the mean is of the three pairs."""
    first, second = {0, 1, 2}, {1, 2, 3, 4}
    found, exact = agreement(members(first, second)), one(8, 3, 4, 2)
    assert found.jaccard == exact.jaccard.value
    assert found.by_chance == pytest.approx(exact.jaccard_by_chance)
    assert found.p_value == pytest.approx(exact.p_value, abs=0.04)  # four deviations of 2000 draws
    three = agreement(members(first, second, {7}))
    pairs = [one(8, *sizes, 0).jaccard_by_chance for sizes in ((3, 4), (3, 1), (4, 1))]
    assert three.by_chance == pytest.approx(np.mean(pairs))
    assert random_agreements(8, (3, 4, 1), 0).mean() == pytest.approx(np.mean(pairs), abs=0.01)


def test_random_sets_agree_as_chance_does() -> None:
    """A known null: of 100 draws of five sets, few have a small p-value, and they are chance's on average."""
    random = np.random.default_rng(3)
    found = [
        agreement(np.stack([random.permutation(24) < size for size in (6, 6, 5, 6, 4)]), seed)
        for seed, _ in enumerate(range(40))
    ]
    assert np.mean([each.jaccard for each in found]) == pytest.approx(found[0].by_chance, abs=0.02)
    assert sum(each.p_value <= 0.05 for each in found) <= 6
    assert 0.3 < np.mean([each.p_value for each in found]) < 0.75


def test_sets_that_are_one_are_found_out() -> None:
    found = agreement(members(*[{0, 1, 2}] * 4, things=24))
    assert (found.jaccard, found.p_value) == (1.0, pytest.approx(1 / 2001))
