"""Which heads belong to a group, given their effects on every prompt; and how firmly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.errors import UserError, quoted
from entitrack.limits import limited
from entitrack.models.anatomy import Head
from entitrack.stats import bootstrap_means, standard_error

_Z = 1.959964
_RESAMPLES = 4000
_OVERLAPS = 200


class By(StrEnum):
    """How a group's heads are chosen. Whichever it is, a head that is within the noise is not."""

    COUNT = "count"
    """The lowest scores, as many as the stage's size."""
    THRESHOLD = "threshold"
    """Every score below minus the threshold."""
    FDR = "fdr"
    """Every score that a bootstrap over contexts finds below zero, with the share of false ones held to a rate."""


@dataclass
class Choice:
    """How heads are chosen.

    Attributes:
        by: `count`, `threshold` or `fdr`, see `By`.
        threshold: Least importance under `threshold`: .02 is a loss of 2 % of the right answer's probability.
        rate: False discovery rate under `fdr` (Benjamini-Hochberg).
    """

    by: str = "count"
    threshold: float = limited(0.02, least=0)
    rate: float = limited(0.05, above=0, below=1)


@dataclass(frozen=True)
class Selection:
    """The heads chosen, and how firmly.

    Attributes:
        heads: The heads, most important first.
        overlap: Share of the same number of lowest scores that stays when contexts are resampled, on average.
    """

    heads: tuple[Head, ...]
    overlap: float


def check_choice(choice: Choice) -> None:
    """Refuse a way to choose that does not exist.

    Raises:
        UserError: Listing those that do.
    """
    if choice.by not in list(By):
        raise UserError("method.choose.by", f"unknown way {quoted(choice.by)}", list(By))


def select(
    effects: Float[Tensor, "prompt layer head"],
    clusters: Int[Tensor, " prompt"],
    noise: float,
    size: int,
    choice: Choice,
) -> Selection:
    """Choose the heads of a group.

    Args:
        effects: Effect of each head on each prompt; NaN for heads that were not scored.
        clusters: Context of each prompt.
        noise: What a sender that is left alone scores.
        size: Most heads; 0 sets no bound.
        choice: How to choose.
    """
    scores = effects.mean(0).nan_to_num(torch.inf)
    errors = standard_error(effects, clusters).nan_to_num(torch.inf)
    wanted = scores + _Z * errors < -noise
    if choice.by == By.THRESHOLD:
        wanted &= scores < -choice.threshold
    if choice.by == By.FDR:
        wanted = (scores < -noise) & _discoveries(effects, clusters, noise, choice.rate)
    ranked = scores.flatten().argsort()[: size or scores.numel()].tolist()
    heads = [(index // scores.shape[1], index % scores.shape[1]) for index in ranked]
    chosen = tuple(head for head in heads if wanted[head])
    return Selection(chosen, overlap(effects, clusters, len(chosen)))


def _discoveries(
    effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], noise: float, rate: float
) -> Tensor:
    """Heads whose score is below zero by a one-sided bootstrap test, by the procedure of Benjamini and Hochberg."""
    flat = effects.flatten(1)
    scored = ~flat.isnan().any(0)
    means = bootstrap_means(flat[:, scored].T, clusters, resamples=_RESAMPLES)
    p_values = ((means >= -noise).sum(0) + 1) / (_RESAMPLES + 1)
    order = np.argsort(p_values)
    passing = p_values[order] <= rate * np.arange(1, len(order) + 1) / len(order)
    count = int(np.flatnonzero(passing).max()) + 1 if passing.any() else 0
    found = torch.zeros(flat.shape[1], dtype=torch.bool)
    found[scored.nonzero().flatten()[torch.from_numpy(order[:count].copy())]] = True
    return found.view(effects.shape[1:])


def overlap(effects: Float[Tensor, "prompt layer head"], clusters: Int[Tensor, " prompt"], count: int) -> float:
    """Average share of the `count` lowest scores that are among as many lowest of resampled contexts; 1 for none."""
    if count == 0:
        return 1.0
    flat = effects.flatten(1).nan_to_num(torch.inf)
    finite = flat.isfinite().all(0)
    flat = flat[:, finite]
    lowest = set(flat.mean(0).argsort()[:count].tolist())
    means = bootstrap_means(flat.T, clusters, resamples=_OVERLAPS)
    kept = [len(lowest & set(np.argsort(row)[:count].tolist())) / count for row in means]
    return float(np.mean(kept))
