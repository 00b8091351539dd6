"""Choosing heads: never within the noise, and no more false ones than asked for."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from entitrack.methods.path_patching.selection import false_discovery_control, overlap, select
from entitrack.methods.path_patching.settings import Choice

CONTEXTS = torch.arange(40).repeat_interleave(7)


def effects(means: Tensor, spread: float, seed: int = 0) -> Tensor:
    """Effects of heads with given means, on 280 prompts in 40 contexts."""
    generator = torch.Generator().manual_seed(seed)
    return means + spread * torch.randn(280, *means.shape, generator=generator)


@pytest.mark.parametrize("by", ["count", "threshold", "fdr"])
def test_clear_heads_are_found_in_order(by: Any) -> None:
    means = torch.tensor([[-0.5, 0.0], [-0.2, 0.3]])
    found = select(effects(means, 0.1), CONTEXTS, 1e-6, 4, Choice(by=by))
    assert found.heads == ((0, 0), (1, 0))
    assert found.overlap == 1.0


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


def test_false_discoveries_are_rarer_than_the_rate() -> None:
    """Over many families of heads without any effect, at most the rate's share finds one."""
    any_found = sum(
        bool(select(effects(torch.zeros(4, 8), 1.0, seed), CONTEXTS, 0.0, None, Choice(by="fdr", rate=0.1)).heads)
        for seed in range(40)
    )
    assert any_found <= 10


def test_heads_that_were_not_scored_are_not_chosen() -> None:
    strong = effects(torch.full((2, 3), -0.5), 0.1)
    strong[:, 0] = torch.nan
    for by in get_args(Choice.model_fields["by"].annotation):
        assert {layer for layer, _ in select(strong, CONTEXTS, 0.0, None, Choice(by=by)).heads} == {1}


def test_overlap_tells_firm_ranks_from_chance() -> None:
    firm = effects(torch.tensor([[-0.9, -0.8, 0.0, 0.0, 0.0, 0.0]]), 0.1)
    chance = effects(torch.zeros(1, 6), 1.0)
    assert overlap(firm, CONTEXTS, 2) == 1.0
    assert overlap(chance, CONTEXTS, 2) < 0.9


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
    assert false_discovery_control(np.array(p_values), rate).tolist() == significant


def test_heads_that_were_not_scored_are_not_tested() -> None:
    """A head with no score for some prompts has none: neither the others' ranks nor its own are moved by it."""
    strong = effects(torch.tensor([[-0.5, -0.4], [0.3, 0.2]]), 0.1)
    strong[:100, 0, 0] = torch.nan
    assert select(strong, CONTEXTS, 0.0, None, Choice(by="fdr")).heads == ((0, 1),)
