"""Which senders of a stage with a long suffix are rerun: those of which first order does not say enough.

1. The sweep is exact; slopes of the answer along the receivers score all senders at once (`engine.first_order`).
2. Those whose scores are not negligible are rerun exactly, and so show how far first order is off: by `curvature`
   times the squared size of what a sender changes in the receivers, at most. Differences within the arithmetic's noise
   show none: over a change of next to nothing they would look like a great deal of it.
3. Those that the curvature could make not negligible are rerun too, and so are all heads that the scores choose.
   That goes on until nothing is left to rerun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.methods.path_patching.settings import NEGLIGIBLE
from entitrack.models.anatomy import Head

LONG = 16
"""Tokens of a suffix from which on first order spares anything: shorter ones go packed side by side."""
_ROUNDING = 1e-6
"""Differences of scores that float32 may make."""

Rerun = Callable[[list[list[int]]], list[dict[str, Tensor]]]
"""Gives the exact effects of some senders, listed by layer, batch by batch; see `engine.path_patching.path_effects`."""


@dataclass(frozen=True)
class Screened:
    """Effects of all senders, exact ones among them.

    Attributes:
        effects: Of each head on each prompt.
        rerun: Whose effects are exact.
        outputs: What the reruns returned, one for each round and batch.
    """

    effects: Float[Tensor, "prompt layer head"] = field(repr=False)
    rerun: Bool[Tensor, "layer head"] = field(repr=False)
    outputs: list[dict[str, Tensor]] = field(repr=False)


def screened(
    first_order: Sequence[dict[str, Tensor]],
    rerun: Rerun,
    chosen: Callable[[Tensor, float], Sequence[Head]],
) -> Screened:
    """Score all senders to first order, and exactly those of which that does not say enough.

    Args:
        first_order: What `engine.first_order.first_order_suffix` gives of all senders, batch by batch.
        rerun: How senders are scored exactly.
        chosen: Which heads effects `[prompt, layer, head]` choose, given the noise.
    """
    effects = torch.cat([output["effect"] for output in first_order])
    change = torch.cat([output["change"] for output in first_order]).mean(0)
    linear, exact = effects.mean(0), torch.zeros_like(change, dtype=torch.bool)
    outputs: list[dict[str, Tensor]] = []
    new = (linear.abs() >= NEGLIGIBLE * linear.abs().max()) & (change > 0)
    while new.any():
        found = rerun([row.nonzero().flatten().tolist() for row in new])
        effects[:, new] = torch.cat([output["effect"] for output in found])[:, new]
        outputs, exact = [*outputs, *found], exact | new
        noise = float(torch.cat([output["null"] for output in outputs]).abs().mean())
        new = _not_negligible(effects.mean(0), linear, change, exact, noise)
        for head in chosen(effects, noise):
            new[head] = True
        new &= ~exact & (change > 0)
    return Screened(effects, exact, outputs)


def _not_negligible(
    scores: Float[Tensor, "layer head"],
    linear: Float[Tensor, "layer head"],
    change: Float[Tensor, "layer head"],
    exact: Bool[Tensor, "layer head"],
    noise: float,
) -> Bool[Tensor, "layer head"]:
    """Heads whose scores may not be negligible, to first order and by the curvature that the exact ones show."""
    off = (scores - linear).abs()
    shown = exact & (off > _ROUNDING + 3 * noise)
    curvature = float((off[shown] / change[shown]).max()) if shown.any() else 0.0
    return linear.abs() + curvature * change >= NEGLIGIBLE * scores.abs().max()
