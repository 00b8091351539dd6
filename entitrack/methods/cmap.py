"""Cross-model activation patching: which group, from the donor, makes the base as good? (paper, section 6).

What moves: z of a group's heads at the group's role. What does not: MLPs, embeddings, unembedding, every other head and
every other position are the base's own and are recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.interventions.evaluation import answer_patched, read_heads
from entitrack.methods.experiment import Experiment, Table, clusters, prompt_inputs, role_positions
from entitrack.models.family import Model
from entitrack.stats import difference, estimate
from entitrack.tasks.encoding import EncodedBatch

FULL = "full circuit"


@dataclass
class Settings:
    """Settings of `method=cmap`.

    Attributes:
        groups: Groups to transplant one by one; empty takes all of the circuit's.
    """

    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CmapResult:
    """Right answers of base, donor, and base with parts of the donor.

    Attributes:
        base: Name of the base.
        donor: Name of the donor.
        heads: Heads moved, by what was transplanted.
        correct: Right or wrong per prompt: `base`, `donor`, and by what was transplanted.
        clusters: Context of each prompt.
    """

    base: str
    donor: str
    heads: Mapping[str, int]
    correct: Mapping[str, Bool[Tensor, " prompt"]]
    clusters: Int[Tensor, " prompt"]

    @property
    def tables(self) -> Sequence[Table]:
        """Accuracy of the base, of the donor, and of the base with each transplant."""
        rows = [self._row(f"{self.base} (base)", "base", None), self._row(f"{self.donor} (donor)", "donor", None)]
        rows += [self._row(f"base with donor's {name}", name, heads) for name, heads in self.heads.items()]
        columns = ("model", "heads", "accuracy [95 %]", "minus base [95 %]", "n")
        title = f"CMAP: {self.donor} -> {self.base}, z of the circuit's heads at their roles"
        return (Table(title, columns, tuple(rows)),)

    def _row(self, label: str, key: str, heads: int | None) -> tuple[Any, ...]:
        right = self.correct[key].float()
        gain = None if key == "base" else difference(right, self.correct["base"].float(), self.clusters)
        return (label, heads, estimate(right, self.clusters), gain, len(right))

    @property
    def notes(self) -> Sequence[str]:
        """What moves, and how intervals are made; a group without heads is named."""
        empty = [f"group {name} has no heads: its row is the base" for name, heads in self.heads.items() if not heads]
        return (
            "moved: z of the heads at the group's role; MLPs, embeddings, other heads and positions stay the base's",
            "95 % intervals: bootstrap over contexts, paired for differences",
            *empty,
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Right or wrong, per prompt."""
        return {**self.correct, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> CmapResult:
    """Transplant the donor's heads into the base, group by group and all together."""
    base = experiment.base()
    donor = experiment.family.load(experiment.donor, "donor")
    circuit = experiment.circuit(base)
    circuit.check(donor.anatomy, experiment.task.roles)
    chosen = [circuit.group(name, "method.groups") for name in settings.groups] or list(circuit.groups)
    transplants = {FULL: circuit.groups, **{group.name: (group,) for group in chosen}}
    prompts = experiment.task.prompts()
    parts = [
        _transplant(experiment, base, donor, circuit, list(transplants.values()), batch)
        for batch in experiment.batches(prompts, f"cmap {donor.name} -> {base.name}")
    ]
    right = torch.cat(parts, 1)
    correct = dict(zip(("donor", "base", *transplants), right, strict=True))
    heads = {name: sum(len(group.heads) for group in groups) for name, groups in transplants.items()}
    return CmapResult(base.name, donor.name, heads, correct, clusters(prompts))


def _transplant(
    experiment: Experiment,
    base: Model,
    donor: Model,
    circuit: Circuit,
    transplants: list[Sequence[Group]],
    batch: EncodedBatch,
) -> Bool[Tensor, "row prompt"]:
    """Right or wrong of the donor, the base, and the base with each transplant: a session in each model."""
    prompts = prompt_inputs(batch)
    sites, numbers = group_sites(circuit, batch)
    given = experiment.runner.run(donor, read_heads, {"prompts": prompts, "sites": sites})
    filled = [{**site, "values": values} for site, values in zip(sites, given["values"], strict=True)]
    variants = [[], *([n for group in groups for n in numbers[group.name]] for groups in transplants)]
    taken = experiment.runner.run(
        base, answer_patched, {"prompts": prompts, "sites": filled, "variants": [sorted(v) for v in variants]}
    )
    predictions = torch.cat([given["prediction"][None], taken["prediction"]])
    return predictions == batch.answers[None]


def group_sites(circuit: Circuit, batch: EncodedBatch) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """The heads of a circuit by layer and role, as interventions take them, and which of them each group has.

    Returns:
        Sites `{"layer", "heads", "position"}` in ascending order of layers, and group name -> numbers of its sites.
    """
    listed: list[tuple[str, dict[str, Any]]] = []
    for group in circuit.groups:
        position = role_positions(batch, group.role, f"circuit, group {group.name!r}")
        for layer in sorted({layer for layer, _ in group.heads}):
            heads = [head for where, head in group.heads if where == layer]
            listed.append((group.name, {"layer": layer, "heads": heads, "position": position}))
    listed.sort(key=lambda entry: entry[1]["layer"])
    numbers = {group.name: [n for n, (name, _) in enumerate(listed) if name == group.name] for group in circuit.groups}
    return [site for _, site in listed], numbers
