"""Which heads belong to a group, given their effects on every prompt; and how firmly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.core.stats import bootstrap_means, standard_error
from entitrack.methods.path_patching.settings import Choice
from entitrack.models.anatomy import Head

_Z = 1.959964
_RESAMPLES = 4000
_OVERLAPS = 200


@dataclass(frozen=True)
class Selection:
    """The heads chosen, and how firmly.

    Attributes:
        heads: The heads, most important first.
        overlap: Share of the same number of lowest scores that stays when contexts are resampled, on average.
        scores: Mean effect of each head on the probability of the right answer; most negative = most important.
        errors: Standard error of each score over contexts.
    """

    heads: tuple[Head, ...]
    overlap: float
    scores: Float[Tensor, "layer head"] = field(repr=False)
    errors: Float[Tensor, "layer head"] = field(repr=False)


def select(
    effects: Float[Tensor, "prompt layer head"],
    clusters: Int[Tensor, " prompt"],
    noise: float,
    size: int | None,
    choice: Choice,
) -> Selection:
    """Choose the heads of a group.

    Args:
        effects: Effect of each head on each prompt; NaN for heads that were not scored.
        clusters: Context of each prompt.
        noise: What a sender that is left alone scores.
        size: Most heads; None sets no bound.
        choice: How to choose.
    """
    scores, errors = effects.mean(0), standard_error(effects, clusters)
    order = scores.nan_to_num(torch.inf)  # heads that were not scored come last, and are never chosen
    clear = order + _Z * errors.nan_to_num(torch.inf) < -noise
    if choice.by == "threshold":
        clear &= order < -choice.threshold
    if choice.by == "fdr":
        clear = (order < -noise) & _discoveries(effects, clusters, noise, choice.rate)
    lowest = order.flatten().argsort()[:size].tolist()
    heads = [(index // order.shape[1], index % order.shape[1]) for index in lowest]
    chosen = tuple(head for head in heads if clear[head])
    return Selection(chosen, overlap(effects, clusters, len(chosen)), scores, errors)


def _discoveries(
    effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], noise: float, rate: float
) -> Tensor:
    """Heads whose score is below zero by a one-sided bootstrap test, with false discoveries controlled."""
    flat = effects.flatten(1)
    scored = ~flat.isnan().any(0)
    means = bootstrap_means(flat[:, scored].T, clusters, resamples=_RESAMPLES)
    p_values = ((means >= -noise).sum(0) + 1) / (_RESAMPLES + 1)
    discovered = torch.zeros(flat.shape[1], dtype=torch.bool)
    discovered[scored] = torch.from_numpy(false_discovery_control(p_values, rate))
    return discovered.view(effects.shape[1:])


def false_discovery_control(p_values: Float[np.ndarray, " test"], rate: float) -> Bool[np.ndarray, " test"]:
    """The tests that are significant by the procedure of Benjamini and Hochberg.

    Of n tests, the k lowest p-values are for the largest k of which the k-th is at most `rate * k / n`.
    """
    order = np.argsort(p_values)
    ranks = np.arange(1, len(order) + 1)
    passing = ranks[p_values[order] <= rate * ranks / len(order)]
    significant = np.zeros(len(order), dtype=bool)
    significant[order[: passing.max(initial=0)]] = True
    return significant


def overlap(effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], count: int) -> float:
    """Average share of the `count` lowest scores that are among as many lowest of resampled contexts; 1 for none."""
    if count == 0:
        return 1.0
    flat = effects.flatten(1).nan_to_num(torch.inf)
    finite = flat.isfinite().all(0)
    flat = flat[:, finite]
    lowest = set(flat.mean(0).argsort()[:count].tolist())
    means = bootstrap_means(flat.T, clusters, resamples=_OVERLAPS)
    shares = [len(lowest & set(np.argsort(row)[:count].tolist())) / count for row in means]
    return float(np.mean(shares))
