"""Which heads belong to a group, given their effects on every prompt; and how firmly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.statistics.contexts import standard_error
from entitrack.core.statistics.discoveries import p_values_below, q_values
from entitrack.methods.path_patching.settings import HALVES, Choice
from entitrack.models.anatomy import Head

CLEAR = 0.025
"""A head is clear of the noise if its one-sided p-value is at most this: its 95 % interval is below it."""
_FEWEST = 4
"""Contexts of which there are halves that tell anything."""


@dataclass(frozen=True)
class Selection:
    """The heads chosen, and how firmly.

    Attributes:
        heads: The heads, most important first.
        scores: Mean effect of each head on the probability of the right answer; most negative = most important.
        errors: Standard error of each score over contexts.
        q_values: Least false discovery rate, over all heads of the stage, at which each is found to be below the noise.
    """

    heads: tuple[Head, ...]
    scores: Float[Tensor, "layer head"] = field(repr=False)
    errors: Float[Tensor, "layer head"] = field(repr=False)
    q_values: Float[Tensor, "layer head"] = field(repr=False)


def select(
    effects: Float[Tensor, "prompt layer head"],
    clusters: Int[Tensor, " prompt"],
    noise: float,
    size: int | None,
    choice: Choice,
) -> Selection:
    """Choose the heads of a group.

    One test decides whichever way heads are chosen: by `fdr` over all heads together, otherwise head by head.

    Args:
        effects: Effect of each head on each prompt; NaN for heads that were not scored.
        clusters: Context of each prompt.
        noise: What a sender that is left alone scores.
        size: Most heads; None sets no bound.
        choice: How to choose.
    """
    scores, errors = effects.mean(0), standard_error(effects, clusters)
    p_by_head, q_by_head = _tests(effects, clusters, noise)
    order = scores.nan_to_num(torch.inf)  # heads that were not scored come last, and are never chosen
    clear = (q_by_head <= choice.rate) if choice.by == "fdr" else (p_by_head <= CLEAR)
    if choice.by == "threshold":
        clear &= order < -choice.threshold
    lowest = order.flatten().argsort()[:size].tolist()
    heads = [(index // order.shape[1], index % order.shape[1]) for index in lowest]
    return Selection(tuple(head for head in heads if clear[head]), scores, errors, q_by_head)


def find_again(
    effects: Float[Tensor, "prompt layer head"],
    clusters: Int[Tensor, " prompt"],
    noise: float,
    size: int | None,
    choice: Choice,
) -> Float[Tensor, "layer head"]:
    """Share of random halves of the contexts in which each head is chosen; not a number with fewer than 4 contexts.

    The receivers of the stage stay those that were found on all contexts (stability selection of Meinshausen and
    Buehlmann, 2010, a stage by itself). Half of the contexts find less than all: a share well above 1/2 is firm.
    """
    contexts, drawn = clusters.unique(), torch.Generator().manual_seed(0)
    found = torch.zeros(effects.shape[1:], dtype=torch.float64)
    if len(contexts) < _FEWEST:
        return found + torch.nan
    for _ in range(HALVES):
        half = contexts[torch.randperm(len(contexts), generator=drawn)[: len(contexts) // 2]]
        rows = torch.isin(clusters, half)
        for head in select(effects[rows], clusters[rows], noise, size, choice).heads:
            found[head] += 1 / HALVES
    return found


def _tests(
    effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], noise: float
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """Of each head that was scored, p- and q-value of its score's not being below the noise; NaN for the others."""
    flat = effects.flatten(1)
    scored = ~flat.isnan().any(0)
    p_values = p_values_below(-noise, flat[:, scored], clusters)
    by_head = torch.full((2, flat.shape[1]), torch.nan, dtype=torch.float64)
    by_head[:, scored] = torch.from_numpy(np.stack([p_values, q_values(p_values)]))
    p_by_head, q_by_head = by_head.view(2, *effects.shape[1:])
    return p_by_head, q_by_head
