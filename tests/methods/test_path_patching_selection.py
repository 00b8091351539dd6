"""Choosing heads: never within the noise, and no more false ones than asked for."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from entitrack.core.statistics.contexts import standard_error
from entitrack.core.statistics.discoveries import p_values_below, q_values
from entitrack.methods.path_patching.selection import find_again, select
from entitrack.methods.path_patching.settings import Choice

CONTEXTS = torch.arange(40).repeat_interleave(7)


def effects(means: Tensor, spread: float, seed: int = 0) -> Tensor:
    """Effects of heads with given means, on 280 prompts in 40 contexts."""
    generator = torch.Generator().manual_seed(seed)
    return means + spread * torch.randn(280, *means.shape, generator=generator)


@pytest.mark.parametrize("by", ["count", "threshold", "fdr"])
def test_clear_heads_are_found_in_order(by: Any) -> None:
    means = torch.tensor([[-0.5, 0.0], [-0.2, 0.3]])
    told = (effects(means, 0.1), CONTEXTS, 1e-6, 4, Choice(by=by))
    assert select(*told).heads == ((0, 0), (1, 0))
    torch.testing.assert_close(find_again(*told), torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double())


@pytest.mark.parametrize("by", ["count", "threshold", "fdr"])
def test_heads_that_do_nothing_are_not_chosen(by: Any) -> None:
    exactly = torch.zeros(280, 4, 6)
    assert select(exactly, CONTEXTS, 0.0, 4, Choice(by=by)).heads == ()
    rounding = -1e-7 * torch.ones(280, 4, 6)
    assert select(rounding, CONTEXTS, 1e-6, 4, Choice(by=by)).heads == ()
    assert select(effects(torch.full((4, 6), 0.2), 0.1), CONTEXTS, 0.0, 4, Choice(by=by)).heads == ()


def test_the_size_bounds_and_none_does_not() -> None:
    strong = effects(torch.linspace(-0.9, -0.3, 12).view(3, 4), 0.05)
    assert len(select(strong, CONTEXTS, 0.0, 5, Choice()).heads) == 5
    assert len(select(strong, CONTEXTS, 0.0, None, Choice()).heads) == 12
    assert len(select(strong, CONTEXTS, 0.0, None, Choice(by="threshold", threshold=0.6)).heads) == 6


@pytest.mark.parametrize(("contexts", "layers"), [(10, 4), (40, 4), (10, 32)])
def test_where_no_head_does_anything_one_is_found_at_the_rate(contexts: int, layers: int) -> None:
    """At a rate of .5, which a test that is too strict misses as one that is too lax does: 50 of 100, +- 4 errors."""
    on, generator = torch.arange(contexts).repeat_interleave(7), torch.Generator().manual_seed(0)
    any_found = 0
    for _ in range(100):
        null = torch.randn(contexts, layers, 6, generator=generator).repeat_interleave(7, 0)
        null += torch.randn(len(on), layers, 6, generator=generator)
        any_found += bool(select(null, on, 0.0, None, Choice(by="fdr", rate=0.5)).heads)
    assert 30 <= any_found <= 70


@pytest.mark.parametrize("contexts", [10, 40])
def test_one_overwhelming_head_among_1024_is_found(contexts: int) -> None:
    on = torch.arange(contexts).repeat_interleave(7)
    many = torch.randn(len(on), 32, 32, generator=torch.Generator().manual_seed(0))
    many[:, 7, 9] -= 4
    found = select(many, on, 0.0, None, Choice(by="fdr"))
    assert found.heads[0] == (7, 9)
    assert found.q_values[7, 9] == found.q_values.min() < 1e-3


def test_the_test_of_a_head_is_students_over_contexts() -> None:
    """Contexts of one size: scipy's one-sided test of their means against the noise."""
    some = effects(torch.full((1, 2), -0.01), 0.1)
    found = p_values_below(-0.005, some.flatten(1), CONTEXTS)
    means = some.view(40, 7, 2).mean(1)
    expected = stats.ttest_1samp(means.numpy(), -0.005, alternative="less").pvalue
    assert found == pytest.approx(expected, rel=1e-3)
    assert p_values_below(0.0, -torch.ones(7, 1), torch.zeros(7, dtype=torch.long)).tolist() == [1.0]


def test_one_head_by_itself_needs_less_than_the_best_of_many() -> None:
    """Chosen by count a head stands for itself, and its q-value says what is left of that among all."""
    some = effects(torch.full((32, 32), 1.0), 0.1)
    some[:, 0, 0] -= some[:, 0, 0].mean() + 2.3 * standard_error(some[:, 0, 0], CONTEXTS)
    by_count = select(some, CONTEXTS, 0.0, None, Choice())
    assert by_count.heads == ((0, 0),)
    assert by_count.q_values[0, 0] > 0.05
    assert select(some, CONTEXTS, 0.0, None, Choice(by="fdr")).heads == ()


def test_heads_that_were_not_scored_are_not_chosen() -> None:
    strong = effects(torch.full((2, 3), -0.5), 0.1)
    strong[:, 0] = torch.nan
    for by in get_args(Choice.model_fields["by"].annotation):
        assert {layer for layer, _ in select(strong, CONTEXTS, 0.0, None, Choice(by=by)).heads} == {1}


def test_firm_heads_are_found_again_and_lucky_ones_are_not() -> None:
    """A head of two and a half errors on all contexts has half of them in a half: 1.8, below the 2 that it takes."""
    some = effects(torch.tensor([[-0.9, 0.3, 0.3]]), 0.1)
    some[:, 0, 1] -= some[:, 0, 1].mean() + 2.5 * standard_error(some[:, 0, 1], CONTEXTS)
    assert select(some, CONTEXTS, 0.0, None, Choice()).heads == ((0, 0), (0, 1))
    firm, lucky, never = find_again(some, CONTEXTS, 0.0, None, Choice())[0].tolist()
    assert (firm, never) == (pytest.approx(1.0), 0.0)
    assert 0.1 < lucky < 0.6


def test_halves_are_of_whole_contexts_and_by_the_same_rule() -> None:
    """Two heads of which only one has room: each is first where its contexts are the half's, half of the time."""
    some = torch.full((280, 1, 2), -1.0) + 0.01 * torch.randn(280, 1, 2, generator=torch.Generator().manual_seed(0))
    some[:, 0, 0] += torch.where(CONTEXTS % 2 == 0, 0.2, -0.2)
    some[:, 0, 1] += torch.where(CONTEXTS % 2 == 0, -0.2, 0.2)
    again = find_again(some, CONTEXTS, 0.0, 1, Choice())
    assert float(again.sum()) == pytest.approx(1.0)
    assert 0.3 < float(again[0, 0]) < 0.7
    one_of_each = torch.arange(280) // 140
    assert bool(find_again(some, one_of_each, 0.0, 1, Choice()).isnan().all())


@pytest.mark.parametrize(
    ("p_values", "rate", "significant"),
    [
        ([0.03, 0.045, 0.04], 0.05, [True, True, True]),
        ([0.03, 0.055, 0.04], 0.05, [False, False, False]),
        ([0.9, 0.001, 0.012, 0.3], 0.05, [False, True, True, False]),
        ([0.9, 0.001, 0.03, 0.3], 0.05, [False, True, False, False]),
        ([0.0125], 0.0125, [True]),
        ([], 0.05, []),
    ],
)
def test_the_step_up_procedure(p_values: list[float], rate: float, significant: list[bool]) -> None:
    """Worked out by hand: the k-th lowest of n against rate k / n, and all below the last that passes."""
    assert (q_values(np.array(p_values)) <= rate * (1 + 1e-12)).tolist() == significant


def test_heads_that_were_not_scored_are_not_tested() -> None:
    """A head with no score for some prompts has none: neither the others' ranks nor its own are moved by it."""
    strong = effects(torch.tensor([[-0.5, -0.4], [0.3, 0.2]]), 0.1)
    strong[:100, 0, 0] = torch.nan
    assert select(strong, CONTEXTS, 0.0, None, Choice(by="fdr")).heads == ((0, 1),)
