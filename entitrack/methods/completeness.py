"""Is anything missing from the circuit? Remove the same heads from it and from the model (paper, section 4.2).

If a circuit is complete, what is left of it without any of its heads does as well as what is left of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.circuits import Circuit, Group, count_heads
from entitrack.core.table import Cell, Table
from entitrack.limits import limited
from entitrack.methods.ablated import prepare
from entitrack.methods.ablation import AblationSettings, Metric, pick
from entitrack.methods.experiment import Experiment, clusters
from entitrack.stats import difference, estimate

NOTHING = "nothing"
"""Name of the empty set K."""


@dataclass
class Settings(AblationSettings):
    """Settings of `method=completeness`.

    Attributes:
        model: Member of the family; empty takes the base.
        random_sets: How many random sets K to remove, besides each whole group.
        share: Probability with which a head of the circuit is in a random set.
    """

    model: str = ""
    random_sets: int = limited(40, least=0)
    share: float = limited(0.5, least=0.01, most=1)


@dataclass(frozen=True)
class CompletenessResult:
    """F of the circuit and of the model, without the same heads.

    Attributes:
        model: Name of the model.
        metric: What F is.
        names: Name of each set K: nothing, the groups, then the random sets.
        sizes: Heads in each.
        left: F(C\\K), what is left of the circuit, per set and prompt.
        rest: F(M\\K), the rest of the model.
        clusters: Context of each prompt.
    """

    model: str
    metric: Metric
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    left: Float[Tensor, "set prompt"]
    rest: Float[Tensor, "set prompt"]
    clusters: Int[Tensor, " prompt"]

    @property
    def tables(self) -> Sequence[Table]:
        """Each group's removal, and the random sets together."""
        rows = [self._row(index) for index, name in enumerate(self.names) if not name.startswith("random")]
        columns = ("K", "heads", "F(M\\K) [95 %]", "F(C\\K) [95 %]", "F(M\\K) - F(C\\K) [95 %]", "n")
        title = f"Completeness in {self.model}; F is {self.metric.value}"
        main = Table(title, columns, tuple(rows))
        random = [index for index, name in enumerate(self.names) if name.startswith("random")]
        return (main, self._spread(random)) if random else (main,)

    def _row(self, index: int) -> tuple[Cell, ...]:
        ends = (self.rest[index], self.left[index])
        found = [estimate(values, self.clusters) for values in ends]
        return (self.names[index], self.sizes[index], *found, difference(*ends, self.clusters), len(ends[0]))

    def _spread(self, random: list[int]) -> Table:
        means = [values[random].double().mean(1) for values in (self.rest, self.left)]
        gap = (means[0] - means[1]).abs()
        rows: list[tuple[Cell, ...]] = [
            (name, float(values.mean()), float(values.std(correction=0)), float(values.min()), float(values.max()))
            for name, values in zip(("F(M\\K)", "F(C\\K)", "|F(M\\K) - F(C\\K)|"), (*means, gap), strict=True)
        ]
        return Table(f"{len(random)} random sets K", ("", "mean", "deviation", "least", "most"), tuple(rows))

    @property
    def notes(self) -> Sequence[str]:
        """What is ablated in each, and how intervals are made."""
        return (
            "M\\K: every head live everywhere, K ablated at its roles; C\\K: ablated outside the circuit, and K too",
            "95 % intervals: bootstrap over contexts, paired; a head that two groups have at one role goes from both",
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """F per set and prompt."""
        return {"circuit": self.left, "model": self.rest, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> CompletenessResult:
    """Remove each group, and random sets, from the circuit and from the model."""
    metric = pick(Metric, settings.metric, "method.metric")
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    circuit = experiment.circuit(model)
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts)
    removed = {NOTHING: (), **{group.name: (group,) for group in circuit.groups if group.heads}}
    removed |= random_sets(circuit, settings.random_sets, settings.share, experiment.seed)
    gone = torch.stack([ablated.live(groups) for groups in removed.values()])
    whole = ablated.live(circuit.groups)
    smaller = ablated.run(torch.cat([whole & ~gone, torch.zeros_like(whole)[None]]), whole)
    empty = smaller.margin[-1]
    rest = ablated.without(gone)
    return CompletenessResult(
        model.name,
        metric,
        tuple(removed),
        tuple(count_heads(groups) for groups in removed.values()),
        smaller.values(metric, empty)[:-1],
        rest.values(metric, empty),
        clusters(prompts),
    )


def random_sets(circuit: Circuit, count: int, share: float, seed: int) -> dict[str, tuple[Group, ...]]:
    """Random sets of a circuit's heads; a set without heads is drawn again."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, tuple[Group, ...]] = {}
    listed = sum(len(group.heads) for group in circuit.groups)
    while len(found) < count and listed:
        drawn = (torch.rand(listed, generator=generator) < share).tolist()
        if any(drawn):
            taken = iter(drawn)
            groups = tuple(
                Group(group.name, group.role, tuple(head for head in group.heads if next(taken)))
                for group in circuit.groups
            )
            found[f"random {len(found) + 1}"] = groups
    return found
