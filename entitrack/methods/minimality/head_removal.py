"""Removing heads of a circuit within their groups: pairs, the set K of each head, and what it does after K is gone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.quirks import Quirk, Quirks
from entitrack.methods.ablated_model import AblatedModel, Heads
from entitrack.methods.metrics import Metric
from entitrack.methods.outcomes import Outcomes
from entitrack.models.anatomy import Head

_DECIMALS = 7
"""Of means over prompts; more of them are rounding noise."""


@dataclass(frozen=True)
class ScoredHead:
    """One head, and what is removed before it.

    Attributes:
        group: Name of its group.
        head: The head, v.
        removed: K, in the order in which it was chosen.
    """

    group: str
    head: Head
    removed: tuple[Head, ...]

    @property
    def label(self) -> str:
        """`layer.head`."""
        return f"{self.head[0]}.{self.head[1]}"

    def record(self) -> dict[str, Any]:
        """As plain values."""
        removed = [list(head) for head in self.removed]
        return {"group": self.group, "head": list(self.head), "label": self.label, "removed": removed}


@dataclass(frozen=True)
class Scores:
    """How much every head of a circuit matters.

    Attributes:
        heads: The heads, group by group.
        outcomes: Of the circuit without K, and without K and v, `[stage, head, prompt]`; None for no heads.
        values: See `share_lost`; published, see `relative_drop`.
    """

    heads: tuple[ScoredHead, ...]
    outcomes: Outcomes | None
    values: Float[Tensor, " head"]


@dataclass(frozen=True)
class HeadRemoval:
    """A circuit whose heads are removed group by group.

    Attributes:
        ablated: The model and its prompts.
        circuit: The circuit.
        metric: What F is.
        quirks: Those of the published procedure that are followed.
    """

    ablated: AblatedModel
    circuit: Circuit
    metric: Metric
    quirks: Quirks

    def without(self, removed: Mapping[str, Sequence[Head]]) -> Heads:
        """Live heads of the circuit less some heads of its groups, which other groups at that role lose too."""
        gone = [replace(group, heads=tuple(removed.get(group.name, ()))) for group in self.circuit.groups]
        return self.ablated.live(self.circuit.groups) & ~self.ablated.live(gone)

    def answers(self, circuits: Sequence[Heads]) -> Outcomes:
        """What circuits answer, `[circuit, prompt]`."""
        full = self.without({})
        outcomes = self.ablated.run(torch.stack([*circuits, torch.zeros_like(full)]), full)
        return outcomes.above(outcomes.logit_difference[-1])[:-1]

    def mean(self, outcomes: Outcomes) -> Float[Tensor, "*circuit"]:
        """Mean F; published, rounded to two decimals."""
        means = outcomes.values(self.metric).double().mean(-1)
        return means.round(decimals=2) if Quirk.ROUNDED_F in self.quirks else means

    def pairs(self) -> dict[str, Float[Tensor, "head head"]]:
        """Mean F of the circuit without each pair of heads of a group; on the diagonal, without one head.

        Published, heads of one index are not removed together, and the pair's F depends on its order.
        """
        wanted = [
            (group, first, second)
            for group in self.circuit.groups
            for first in range(len(group.heads))
            for second in range(len(group.heads))
        ]
        tables = {g.name: torch.zeros(len(g.heads), len(g.heads), dtype=torch.float64) for g in self.circuit.groups}
        if wanted:
            removed = [{group.name: self._pair(group.heads, i, j)} for group, i, j in wanted]
            means = self.mean(self.answers([self.without(heads) for heads in removed]))
            for (group, first, second), mean in zip(wanted, means.tolist(), strict=True):
                tables[group.name][first, second] = mean
        if Quirk.OTHER_ORDER in self.quirks:
            return {name: torch.where(table == 0, table.T, table) for name, table in tables.items()}
        return tables

    def _pair(self, heads: Sequence[Head], first: int, second: int) -> tuple[Head, ...]:
        """What is removed for a pair; published, the first alone if both have one index in their layers."""
        if Quirk.PAIRS_OF_ONE_INDEX in self.quirks and heads[first][1] == heads[second][1]:
            return (heads[first],)
        return (heads[first], heads[second])

    def scores(self, removed: Mapping[str, Sequence[tuple[Head, ...]]]) -> Scores:
        """Every head's score, once its K is removed."""
        heads = tuple(
            ScoredHead(group.name, head, gone)
            for group in self.circuit.groups
            for head, gone in zip(group.heads, removed[group.name], strict=True)
        )
        if not heads:
            return Scores(heads, None, torch.zeros(0, dtype=torch.float64))
        without_k = self.answers([self.without({one.group: one.removed}) for one in heads])
        without_both = self.answers([self.without({one.group: (*one.removed, one.head)}) for one in heads])
        outcomes = Outcomes.stacked([without_k, without_both])
        score = relative_drop if Quirk.RATIO_SCORE in self.quirks else share_lost
        scores = [score(*ends) for ends in self.mean(outcomes).T.tolist()]
        return Scores(heads, outcomes, torch.tensor(scores, dtype=torch.float64))


def share_lost(before: float, after: float) -> float:
    """What is lost, F(C\\K) - F(C\\(K+v)), as a share of the larger of the two in size; 0 where both are 0.

    Where F is not negative it is from -1 to 1: 1 if nothing is left, which tells such heads apart from those that lose
    as little of much. It orders heads as the published ratio does.
    """
    larger = max(abs(before), abs(after))
    return (before - after) / larger if larger else 0.0


def relative_drop(before: float, after: float) -> float:
    """F(C\\K) / F(C\\(K+v)) - 1; infinite where only the second is 0.

    Where the second is negative, as logit differences may be, the drop is taken relative to its size: a head whose
    removal makes F worse scores above 0 whatever F's sign.
    """
    if after:
        return (before - after) / -after if after < 0 else before / after - 1
    return math.inf if before > 0 else 0.0


def choose_removed(
    heads: Sequence[Head], index: int, pairs: Float[Tensor, "head head"], share: float, quirks: Quirks
) -> tuple[Head, ...]:
    """K of one head: the others of its group, ranked by how important it is once each is gone, as far as it is.

    Importance of v without u: F(C\\u) - F(C\\(u+v)). The published table has no entry for pairs that leave no right
    answer in either order, so those are never chosen there. Of equally important heads the group's first come first:
    importance is a difference of counts, and what arithmetic adds to it is rounded away.

    Args:
        heads: The group.
        index: Which of them is v.
        pairs: Mean F without each pair.
        share: Most heads of K, as a share of the group.
        quirks: Those of the published procedure that are followed.
    """
    gains = [(round(float(pairs[u, u] - pairs[index, u]), _DECIMALS), u) for u in range(len(heads)) if u != index]
    if Quirk.OTHER_ORDER in quirks:
        gains = [(gain, u) for gain, u in gains if pairs[index, u] > 0]
    ranked = sorted(gains, key=lambda entry: -entry[0])[: math.ceil(share * len(heads))]
    return tuple(heads[u] for gain, u in ranked if gain > 0)
