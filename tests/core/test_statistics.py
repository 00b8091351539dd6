"""Intervals: what they must do, whatever the numbers; and what is known of them from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api
import torch
from scipy import stats
from torch import Tensor

from entitrack.core.statistics import shares
from entitrack.core.statistics.contexts import LEAST_CONTEXTS, ContextSums, standard_error
from entitrack.core.statistics.estimates import (
    FEW_CONTEXTS,
    Estimate,
    difference,
    estimate,
    function_of_means,
    p_value,
    ratio,
)


def contexts(count: int, size: int = 7) -> Tensor:
    return torch.arange(count).repeat_interleave(size)


def drawn(count: int, share: float, seed: int, size: int = 7) -> Tensor:
    """Truths of so many contexts, which differ in how often they are true."""
    rng = np.random.default_rng(seed)
    shares = rng.beta(4 * share, 4 * (1 - share), count)
    return torch.from_numpy(rng.random((count, size)) < shares[:, None]).flatten()


def numbers(count: int, seed: int, size: int = 7) -> Tensor:
    """Values that vary between contexts and within them."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.normal(size=(count, 1)) + rng.normal(size=(count, size))).ravel())


def ends(found: Estimate) -> tuple[float, float]:
    return found.low, found.high


@pytest.mark.parametrize("kind", [drawn, lambda count, share, seed: numbers(count, seed)])
def test_an_interval_holds_its_mean_and_narrows_with_more_contexts(kind: object) -> None:
    widths = []
    for count in (20, 80, 320):
        found = estimate(kind(count, 0.7, 0), contexts(count))  # type: ignore[operator]
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_wilsons_interval_by_hand() -> None:
    """Brown, Cai and DasGupta's formula worked out for 3 of 10 with z = 2: (.3 + .2 +- 2 sqrt(.021 + .01)) / 1.4."""
    low, high = shares.wilson(0.3, 10.0, 2.0)
    assert low == pytest.approx((0.5 - 2 * math.sqrt(0.031)) / 1.4)
    assert high == pytest.approx((0.5 + 2 * math.sqrt(0.031)) / 1.4)


def test_independent_prompts_have_the_textbook_interval() -> None:
    """Contexts of one prompt each: scipy's Wilson interval."""
    for right in (0, 1, 13, 40):
        found = estimate(torch.arange(40) < right, torch.arange(40))
        known = stats.binomtest(right, 40).proportion_ci(0.95, "wilson")
        assert ends(found) == pytest.approx((known.low, known.high), rel=0.02 if right == 13 else 1e-6)


def test_values_have_the_cluster_robust_t_interval() -> None:
    """Contexts of unequal sizes, held against a regression on nothing but a constant."""
    sizes = torch.tensor([3, 7, 5, 7, 1, 4, 7, 6, 2, 7, 7, 5])
    clusters = torch.arange(12).repeat_interleave(sizes)
    first, second = numbers(9, 0)[: len(clusters)], numbers(9, 1)[: len(clusters)]
    for values, found in ((first, estimate(first, clusters)), (first - second, difference(first, second, clusters))):
        options = {"groups": clusters.numpy(), "use_correction": False}
        fitted = statsmodels.api.OLS(values.numpy(), np.ones(len(values))).fit(cov_type="cluster", cov_kwds=options)
        half = stats.t.ppf(0.975, 11) * float(fitted.bse[0]) * math.sqrt(12 / 11)
        assert found.value == pytest.approx(float(fitted.params[0]))
        assert ends(found) == pytest.approx((found.value - half, found.value + half))


def test_the_design_effect_is_that_of_the_survey() -> None:
    """Prompts that agree within contexts count as one, whatever was assumed of contexts."""
    right = (torch.arange(200) % 2 == 0).repeat_interleave(7)
    assert shares.effective_size(ContextSums.of(contexts(200), right)) == pytest.approx(200, rel=0.01)
    apart = (torch.arange(1400) % 2 == 0)[torch.randperm(1400, generator=torch.Generator().manual_seed(0))]
    assert shares.effective_size(ContextSums.of(contexts(200), apart)) == pytest.approx(1400, rel=0.15)


@pytest.mark.parametrize("count", [10, 12, 72])
def test_nothing_is_certain(count: int) -> None:
    """No interval of shares has zero width: neither at the edges, nor of what is compared with itself."""
    on = contexts(count)
    always, never = torch.ones(7 * count, dtype=torch.bool), torch.zeros(7 * count, dtype=torch.bool)
    assert estimate(always, on).high == 1
    assert estimate(never, on).low == 0
    right = drawn(count, 0.7, 3)
    for one, other in ((always, always), (never, never), (always, never), (right, right), (right, always)):
        for found in (estimate(one, on), difference(one, other, on), ratio(one, other, on)):
            assert found.without or found.high - found.low > 0.5 / (7 * count)


@pytest.mark.parametrize("count", [10, 12, 15, 40, 72])
@pytest.mark.parametrize("size", [1, 2, 7, 14])
def test_more_right_answers_raise_both_ends(count: int, size: int) -> None:
    """At the edges too: 1 of 84 is above 0 of 84 at both ends."""
    found = [estimate(torch.arange(count * size) == right - 1, contexts(count, size)) for right in (0, 1)]
    two = torch.arange(count * size) % (count * size - 1) == 0
    found.append(estimate(two, contexts(count, size)))
    assert found[0].low < found[1].low < found[2].low
    assert found[0].high < found[1].high < found[2].high


def test_right_and_wrong_mirror_each_other() -> None:
    first, second = drawn(12, 0.8, 0), drawn(12, 0.3, 1)
    right, wrong = estimate(first, contexts(12)), estimate(~first, contexts(12))
    assert ends(wrong) == pytest.approx((1 - right.high, 1 - right.low))
    gain, loss = difference(first, second, contexts(12)), difference(~first, ~second, contexts(12))
    assert ends(loss) == pytest.approx((-gain.high, -gain.low))
    back = difference(second, first, contexts(12))
    assert ends(back) == pytest.approx((-gain.high, -gain.low))


def test_copies_of_prompts_within_contexts_add_next_to_nothing() -> None:
    """Of values they add nothing; of shares, what they take from the assumption about contexts."""
    values, right = numbers(20, 4), drawn(20, 0.7, 5)
    once, copied = (ends(estimate(values.repeat_interleave(k), contexts(20, 7 * k))) for k in (1, 5))
    assert copied == pytest.approx(once)
    once, copied = (ends(estimate(right.repeat_interleave(k), contexts(20, 7 * k))) for k in (1, 5))
    assert copied == pytest.approx(once, abs=0.02)
    torch.testing.assert_close(
        standard_error(values.repeat_interleave(7)[:, None], contexts(20, 49)),
        standard_error(values[:, None], contexts(20)),
    )


def test_few_contexts_have_no_interval_and_say_so() -> None:
    for count in (1, LEAST_CONTEXTS - 1):
        for values in (drawn(count, 0.6, 1), numbers(count, 0)):
            for found in (
                estimate(values, contexts(count)),
                difference(values, ~values if values.dtype == torch.bool else -values, contexts(count)),
                ratio(values, values, contexts(count)),
            ):
                assert math.isnan(found.low)
                assert math.isnan(found.high)
                assert str(found).endswith(" [too few contexts]")
                assert found.margin == ""
            assert math.isnan(p_value(values, values, contexts(count)))
    assert estimate(drawn(LEAST_CONTEXTS, 0.5, 0), contexts(LEAST_CONTEXTS)).without is None


def test_what_is_a_share_is_known_from_its_type() -> None:
    right = drawn(20, 0.9, 0)
    assert estimate(right, contexts(20)).high < 1
    assert ends(estimate(right, contexts(20))) != pytest.approx(ends(estimate(right.double(), contexts(20))), abs=1e-4)
    flat = estimate(torch.full((140,), 0.25), contexts(20))
    assert ends(flat) == (0.25, 0.25)


def test_pairing_narrows_the_interval() -> None:
    right = drawn(40, 0.5, 2)
    better = right | (torch.arange(280) % 29 == 0)
    paired, alone = difference(better, right, contexts(40)), estimate(right, contexts(40))
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_a_ratio_is_of_means_and_paired() -> None:
    second = numbers(12, 0) + 8
    found = ratio(second / 2, second, contexts(12))
    assert (found.value, *ends(found)) == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)
    unrelated = ratio(numbers(12, 1) + 8, second, contexts(12))
    assert unrelated.high - unrelated.low > 0.05


@pytest.mark.parametrize("seed", range(5))
def test_the_ends_of_a_ratio_are_where_the_difference_ends_at_0(seed: int) -> None:
    """Fieller's interval by its definition: `first - R * second` has an interval that ends at 0."""
    first, second = numbers(12, seed) + 3, numbers(12, seed + 10) + 5
    found = ratio(first, second, contexts(12))
    for end in ends(found):
        at = estimate(first - end * second, contexts(12))
        assert min(abs(at.low), abs(at.high)) < 1e-9


def test_a_ratio_of_shares_agrees_with_their_difference_about_1() -> None:
    """Whether one of two shares is greater is one question: both intervals hold equality, or neither does."""
    verdicts = set()
    for seed in range(40):
        first, second = drawn(15, 0.6, seed), drawn(15, 0.4, seed + 100)
        of_ratio, apart = ratio(first, second, contexts(15)), difference(first, second, contexts(15))
        assert (of_ratio.low > 1) == (apart.low > 0)
        assert (of_ratio.high < 1) == (apart.high < 0)
        verdicts.add(apart.low > 0)
    assert verdicts == {True, False}


def test_a_ratio_without_an_end_or_without_a_value_says_so() -> None:
    first, right = numbers(12, 0) + 5, drawn(12, 0.5, 0)
    unbounded = ratio(first, numbers(12, 1), contexts(12))
    assert math.isnan(unbounded.low)
    assert str(unbounded).endswith(" [unbounded]")
    undefined = ratio(right, torch.zeros(84, dtype=torch.bool), contexts(12))
    assert math.isnan(undefined.value)
    assert str(undefined) == "no ratio"


def test_rounded_means_give_the_ratio_and_lie_in_its_interval() -> None:
    right, always = torch.arange(84) % 3 == 0, torch.ones(84, dtype=torch.bool)
    assert ratio(right[:83], always[:83], contexts(12)[:83], decimals=2).value == 0.34
    first, second = torch.arange(7 * 400) < 150, torch.arange(7 * 400) < 155
    found = ratio(first, second, contexts(400), decimals=1)
    assert found.value == 1.0
    assert found.low < 150 / 155 < 1 <= found.high


def test_a_p_value_is_the_level_at_which_the_interval_ends_at_0() -> None:
    for seed in range(20):
        first, second = drawn(15, 0.6, seed), drawn(15, 0.4, seed + 100)
        apart = difference(first, second, contexts(15))
        excludes = apart.low > 0 or apart.high < 0
        assert (p_value(first, second, contexts(15)) < 0.05) == excludes
        assert p_value(first, second, contexts(15)) == pytest.approx(p_value(second, first, contexts(15)))
    first, second = numbers(15, 0) + 0.5, numbers(15, 1)
    sums = (first - second).view(15, 7).sum(1).numpy()
    assert p_value(first, second, contexts(15)) == pytest.approx(stats.ttest_1samp(sums, 0).pvalue, rel=1e-3)
    assert p_value(first, first, contexts(15)) == 1
    assert p_value(first + 1e6, first, contexts(15)) < 1e-11


def test_the_standard_error_is_the_textbook_one() -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(3))
    found = standard_error(values[:, None], torch.arange(500))
    torch.testing.assert_close(found[0], values.std() / 500**0.5, rtol=1e-3, atol=0)


def test_the_jackknife_of_a_mean_is_the_means_interval() -> None:
    """With contexts of one size, leaving each out gives the cluster-robust variance, to the last digit."""
    values, clusters = numbers(12, 3), contexts(12)
    found = function_of_means(lambda means: 2 * means[:, 0], [values], clusters)
    known = estimate(values, clusters)
    assert (found.value, *ends(found)) == pytest.approx((2 * known.value, 2 * known.low, 2 * known.high))


def test_the_jackknife_leaves_out_contexts_one_by_one() -> None:
    """By hand, of contexts that differ in size: scipy's t on the values without each."""
    sizes = torch.tensor([1, 2, 3, 4, 5, 6, 7, 1, 2, 3])
    clusters = torch.arange(10).repeat_interleave(sizes)
    first, second = numbers(10, 1)[: len(clusters)] + 3, numbers(10, 2)[: len(clusters)] + 9
    found = function_of_means(lambda means: abs(means[:, 0] - 1) / means[:, 1], [first, second], clusters)
    without = []
    for context in range(10):
        rest = clusters != context
        without.append(float(abs(first[rest].mean() - 1) / second[rest].mean()))
    spread = np.std(without) * math.sqrt(9)
    value = float(abs(first.mean() - 1) / second.mean())
    half = stats.t.ppf(0.975, 9) * spread
    assert (found.value, *ends(found)) == pytest.approx((value, value - half, value + half))
    few = function_of_means(lambda means: means[:, 0], [first[:20]], clusters[:20])
    assert few.without == FEW_CONTEXTS
