"""Intervals: what they must do, whatever the numbers."""

from __future__ import annotations

import math

import torch

from entitrack.core.stats import Estimate, bootstrap_means, difference, estimate, ratio, standard_error


def test_an_interval_holds_its_mean_and_narrows_with_more_contexts() -> None:
    generator = torch.Generator().manual_seed(0)
    widths = []
    for contexts in (20, 80, 320):
        right = (torch.rand(contexts * 7, generator=generator) < 0.7).float()
        found = estimate(right, torch.arange(contexts).repeat_interleave(7))
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


def test_prompts_of_one_context_count_as_one() -> None:
    """Copying every prompt within its context adds no information; copying contexts does."""
    right = torch.tensor([1.0, 0, 0, 1, 1, 1, 0, 1, 1, 0])
    once = estimate(right, torch.arange(10))
    within = estimate(right.repeat_interleave(7), torch.arange(10).repeat_interleave(7))
    assert (within.low, within.high) == (once.low, once.high)
    torch.testing.assert_close(
        standard_error(right.repeat_interleave(7)[:, None], torch.arange(10).repeat_interleave(7)),
        standard_error(right[:, None], torch.arange(10)),
    )


def test_coverage_is_about_the_level() -> None:
    generator = torch.Generator().manual_seed(1)
    inside = 0
    for _ in range(200):
        right = (torch.rand(100, generator=generator) < 0.6).float()
        found = estimate(right, torch.arange(100))
        inside += found.low <= 0.6 <= found.high
    assert 180 <= inside <= 199


def test_a_difference_with_itself_is_zero_for_certain() -> None:
    right = (torch.arange(50) % 3 == 0).float()
    assert difference(right, right, torch.arange(50)) == Estimate(0.0, 0.0, 0.0, 50)


def test_pairing_narrows_the_interval() -> None:
    generator = torch.Generator().manual_seed(2)
    right = (torch.rand(200, generator=generator) < 0.5).float()
    better = right.clone()
    better[:10] = 1.0
    paired = difference(better, right, torch.arange(200))
    alone = estimate(right, torch.arange(200))
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_all_right_is_not_certainty() -> None:
    found = estimate(torch.ones(20), torch.arange(20))
    assert found.value == found.high == 1.0
    assert 0.8 < found.low < 0.9


def test_the_standard_error_is_the_textbook_one() -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(3))
    found = standard_error(values[:, None], torch.arange(500))
    torch.testing.assert_close(found[0], values.std() / 500**0.5, rtol=1e-3, atol=0)


def test_series_see_the_same_resamples() -> None:
    values = torch.randn(3, 30)
    clusters = torch.arange(30) % 10
    together = bootstrap_means(values, clusters, seed=5, resamples=50)
    alone = bootstrap_means(values[1], clusters, seed=5, resamples=50)
    assert abs(together[:, 1] - alone).max() < 1e-12


def test_a_ratio_is_of_means_and_paired() -> None:
    clusters = torch.arange(40) // 4
    second = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.5
    found = ratio(second / 2, second, clusters)
    assert abs(found.value - 0.5) < 1e-6
    assert abs(found.low - 0.5) < 1e-6
    assert abs(found.high - 0.5) < 1e-6
    assert math.isnan(ratio(second, torch.zeros(40), clusters).value)
    thirds = (torch.arange(40) % 3 == 0).float()
    assert ratio(thirds, torch.ones(40), clusters, decimals=2).value == round(float(thirds.mean()), 2)
