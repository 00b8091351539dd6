"""Does every head of the circuit earn its place? (paper, section 4.2).

A head that others can stand in for seems to do nothing. So for each head v a set K of its group is removed first, the
heads whose removal raises v's importance most, and v is scored by what its removal does then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.core.table import Cell, Table
from entitrack.limits import limited
from entitrack.methods.ablated import prepare
from entitrack.methods.ablation import AblationSettings, Compat, Metric, pick
from entitrack.methods.experiment import Experiment, clusters
from entitrack.methods.head_removal import HeadScore, Trial, choose_removed
from entitrack.stats import Estimate, difference


@dataclass
class Settings(AblationSettings):
    """Settings of `method=minimality`.

    Attributes:
        model: Member of the family; empty takes the base.
        share: K has at most this share of the group's heads (the paper: 0.3).
        threshold: Heads whose score is below it are not in the pruned circuit (the paper: 0.01).
    """

    model: str = ""
    share: float = limited(0.3, least=0, most=1)
    threshold: float = limited(0.01)


@dataclass(frozen=True)
class MinimalityResult:
    """Scores of all heads, and the circuit without those that fail.

    Attributes:
        model: Name of the model.
        metric: What F is.
        compat: Which procedure.
        threshold: Least score of a head that stays.
        scores: By group, in the circuit's order.
        before: F(C), per prompt.
        after: F of the pruned circuit.
        circuit: The pruned circuit.
        size: Heads in the circuit before.
        pairs: Group -> mean F of the circuit without each pair of its heads, in the circuit's order.
        clusters: Context of each prompt.
    """

    model: str
    metric: Metric
    compat: Compat
    threshold: float
    scores: tuple[HeadScore, ...]
    before: Float[Tensor, " prompt"]
    after: Float[Tensor, " prompt"]
    circuit: Circuit
    size: int
    pairs: Mapping[str, Float[Tensor, "head head"]]
    clusters: Int[Tensor, " prompt"]

    @property
    def tables(self) -> Sequence[Table]:
        """The circuits' F, and the heads' scores."""
        title = f"Minimality in {self.model}; F is {self.metric.value}"
        change = difference(self.after, self.before, self.clusters)
        ends: list[tuple[Cell, ...]] = [
            ("circuit", self.size, float(self.before.mean()), None, len(self.before)),
            (f"pruned at {self.threshold}", self.circuit.size, float(self.after.mean()), change, len(self.after)),
        ]
        columns = ("group", "layer.head", "heads in K", "F(C\\K)", "F(C\\(K+v))", "drop [95 %]", "score", "stays")
        rows = tuple(self._row(score) for score in self.scores)
        return (
            Table(title, ("", "heads", "F", "change [95 %]", "n"), tuple(ends)),
            Table("Scores", columns, rows),
        )

    def _row(self, one: HeadScore) -> tuple[Cell, ...]:
        before, after = one.before.mean().item(), one.after.mean().item()
        stays = "yes" if one.score >= self.threshold else "no"
        label = f"{one.head[0]}.{one.head[1]}"
        return (one.group, label, len(one.removed), before, after, self.drop(one), one.score, stays)

    def drop(self, one: HeadScore) -> Estimate:
        """F(C\\K) - F(C\\(K+v)), with its interval."""
        return difference(one.before, one.after, self.clusters)

    @property
    def notes(self) -> Sequence[str]:
        """What a score is, and which procedure was followed."""
        paper = ("published procedure: pairs with one head index are not removed together, F is rounded to 2 decimals",)
        return (
            "score of v: F(C\\K) / F(C\\(K+v)) - 1; K: the heads of v's group whose removal most raises v's importance",
            "95 % intervals: bootstrap over contexts, paired; a head that two groups have at one role goes from both",
            *(paper if self.compat is Compat.PAPER else ()),
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """F of all pairs by group; scores; F per prompt of both circuits."""
        named = {f"pairs.{name}": table for name, table in self.pairs.items()}
        named["scores"] = torch.tensor([one.score for one in self.scores], dtype=torch.float64)
        return {**named, "circuit": self.before, "pruned": self.after, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> MinimalityResult:
    """Score every head within its group, and prune the circuit."""
    metric = pick(Metric, settings.metric, "method.metric")
    compat = pick(Compat, settings.compat, "method.compat")
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    circuit = experiment.circuit(model)
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts)
    trial = Trial(ablated, circuit, metric, compat)
    pairs = trial.pairs()
    removed = {
        group.name: [
            choose_removed(group.heads, index, pairs[group.name], settings.share, compat)
            for index in range(len(group.heads))
        ]
        for group in circuit.groups
    }
    scores = trial.scores(removed)
    pruned = prune(circuit, scores, settings.threshold, model.name)
    before, after = trial.values([trial.without({}), ablated.live(pruned.groups)])
    return MinimalityResult(
        model.name,
        metric,
        compat,
        settings.threshold,
        scores,
        before,
        after,
        pruned,
        circuit.size,
        pairs,
        clusters(prompts),
    )


def prune(circuit: Circuit, scores: Sequence[HeadScore], threshold: float, model: str) -> Circuit:
    """The circuit with only those heads whose score reaches the threshold."""
    kept = {(one.group, one.head) for one in scores if one.score >= threshold}
    groups = tuple(
        Group(group.name, group.role, tuple(head for head in group.heads if (group.name, head) in kept))
        for group in circuit.groups
    )
    pruned: dict[str, Any] = {"method": "minimality", "model": model, "threshold": threshold}
    return Circuit(groups, {**circuit.found_on, "pruned": pruned})
