"""Which heads belong to a group, given their effects on every prompt; and how firmly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.statistics.contexts import standard_error
from entitrack.core.statistics.discoveries import p_values_below, q_values
from entitrack.core.statistics.resampling import resampled_means
from entitrack.methods.path_patching.settings import Choice
from entitrack.models.anatomy import Head

CLEAR = 0.025
"""A head is clear of the noise if its one-sided p-value is at most this: its 95 % interval is below it."""
_OVERLAPS = 200


@dataclass(frozen=True)
class Selection:
    """The heads chosen, and how firmly.

    Attributes:
        heads: The heads, most important first.
        overlap: Share of the same number of lowest scores that stays when contexts are resampled, on average.
        scores: Mean effect of each head on the probability of the right answer; most negative = most important.
        errors: Standard error of each score over contexts.
        q_values: Least false discovery rate, over all heads of the stage, at which each is found to be below the noise.
    """

    heads: tuple[Head, ...]
    overlap: float
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
    chosen = tuple(head for head in heads if clear[head])
    return Selection(chosen, overlap(effects, clusters, len(chosen)), scores, errors, q_by_head)


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


def overlap(effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], count: int) -> float:
    """Average share of the `count` lowest scores that are among as many lowest of resampled contexts; 1 for none."""
    if count == 0:
        return 1.0
    flat = effects.flatten(1).nan_to_num(torch.inf)
    finite = flat.isfinite().all(0)
    flat = flat[:, finite]
    lowest = set(flat.mean(0).argsort()[:count].tolist())
    means = resampled_means(flat.T, clusters, _OVERLAPS)
    shares = [len(lowest & set(np.argsort(row)[:count].tolist())) / count for row in means]
    return float(np.mean(shares))
