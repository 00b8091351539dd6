"""Does the same group carry the same thing in the donors? (paper, section 5, figure 4).

What moves: z of a group's heads at its role, from the counterfactual to the clean prompt, in one model. What is right:
the desideratum's target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.circuits import Circuit
from entitrack.errors import UserError
from entitrack.interventions.activation_patching import answer_from_source
from entitrack.masks import Masks, read_masks
from entitrack.methods.cmap import group_sites
from entitrack.methods.experiment import Cell, Experiment, Table, clusters, prompt_inputs
from entitrack.methods.pairs import EncodedPairs, box_prompts, draw_pairs, encode_pairs, published_quirk, task_compat
from entitrack.models.family import Model
from entitrack.stats import Estimate, estimate
from entitrack.tasks.boxes import BoxesPrompt
from entitrack.tasks.desiderata import Desideratum, find_desiderata

NOTHING = "nothing"


@dataclass
class Settings:
    """Settings of `method=activation_patching`.

    Attributes:
        models: Members of the family; empty takes all.
        desiderata: Names, `paper`, `extra` or `all`, or `module:Class` for one's own.
        groups: Groups to patch, one by one; empty takes all of the circuit's.
        masks: `masks.json` of `method=dcm`, whose heads are patched; empty patches whole groups.
        repeats: How often the counterfactuals are drawn (the paper: 10).
    """

    models: list[str] = field(default_factory=list)
    desiderata: list[str] = field(default_factory=lambda: ["paper"])
    groups: list[str] = field(default_factory=list)
    masks: str = ""
    repeats: int = 3


@dataclass(frozen=True)
class Patched:
    """One model, one desideratum: whether the target was answered.

    Attributes:
        model: Name of the model.
        desideratum: Name of the desideratum.
        heads: Group -> number of heads patched; `nothing` -> 0.
        correct: Group -> right or wrong, by repeat and prompt.
    """

    model: str
    desideratum: str
    heads: Mapping[str, int]
    correct: Mapping[str, Bool[Tensor, "repeat prompt"]]


@dataclass(frozen=True)
class ActivationPatchingResult:
    """Accuracy by model, group and desideratum.

    Attributes:
        patched: One entry for each model and desideratum.
        clusters: Context of each prompt.
        masks: Where the heads are from, in words.
    """

    patched: tuple[Patched, ...]
    clusters: Int[Tensor, " prompt"]
    masks_from: str

    def accuracy(self, model: str, group: str, desideratum: str) -> Estimate:
        """Share of targets answered, over prompts and repeats; contexts are the independent units."""
        right = next(p for p in self.patched if (p.model, p.desideratum) == (model, desideratum)).correct[group]
        return estimate(right.flatten().float(), self.clusters.repeat(len(right)))

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(dict.fromkeys(entry.model for entry in self.patched))

    @property
    def desiderata(self) -> list[str]:
        """Names of the desiderata."""
        return list(dict.fromkeys(entry.desideratum for entry in self.patched))

    @property
    def groups(self) -> list[str]:
        """Names of the groups, `nothing` first."""
        return list(self.patched[0].correct)

    @property
    def tables(self) -> Sequence[Table]:
        """The published table: model x group x desideratum; then the heads that were patched."""
        rows: list[tuple[Cell, ...]] = [
            (f"{model}/{group}", *(self.accuracy(model, group, rule) for rule in self.desiderata), self._count)
            for model in self.models
            for group in self.groups
        ]
        first = [entry for entry in self.patched if entry.model == self.models[0]]
        counts: list[tuple[Cell, ...]] = [
            (group, *(entry.heads[group] for entry in first)) for group in self.groups if group != NOTHING
        ]
        return (
            Table("Activation patching: targets answered", ("model/group", *self.desiderata, "n"), tuple(rows)),
            Table("Heads patched", ("group", *self.desiderata), tuple(counts)),
        )

    @property
    def _count(self) -> int:
        return next(iter(self.patched[0].correct.values())).numel()

    @property
    def notes(self) -> Sequence[str]:
        """What moves, and how to read the rows."""
        repeats = len(next(iter(self.patched[0].correct.values())))
        return (
            f"moved: z of {self.masks_from}, at the group's role, from counterfactual to clean prompt",
            "nothing: how often the unpatched model answers the target already",
            f"{repeats} draws of the counterfactuals; 95 % intervals: bootstrap over contexts",
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Right or wrong, by repeat and prompt."""
        found = {f"{p.model}.{g}.{p.desideratum}": right for p in self.patched for g, right in p.correct.items()}
        return {**found, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> ActivationPatchingResult:
    """Patch every group in every model, for every desideratum."""
    if settings.repeats < 1:
        raise UserError("method.repeats", f"{settings.repeats} repeats are too few")
    rules = find_desiderata(settings.desiderata)
    circuit = experiment.circuit(experiment.base())
    if settings.groups:
        circuit = Circuit(tuple(circuit.group(name, "method.groups") for name in settings.groups))
    masks = read_masks(settings.masks) if settings.masks else None
    circuits = {rule.name: _chosen(circuit, masks, rule, settings.masks) for rule in rules}
    prompts = box_prompts(experiment)
    patched = []
    for name in settings.models or list(experiment.family.members):
        model = experiment.family.load(name, "method.models")
        circuit.check(model.anatomy, experiment.task.roles)
        for rule in rules:
            patched.append(_patch(experiment, settings, model, rule, circuits[rule.name], prompts))
    words = f"the heads of the masks in {settings.masks}" if masks else "all heads of each group"
    return ActivationPatchingResult(tuple(patched), clusters(prompts), words)


def _chosen(circuit: Circuit, masks: Masks | None, rule: Desideratum, place: str) -> Circuit:
    """The circuit with the heads that are patched for a desideratum."""
    return masks.narrow_circuit(circuit, rule.name, place) if masks else circuit


def _patch(
    experiment: Experiment,
    settings: Settings,
    model: Model,
    rule: Desideratum,
    circuit: Circuit,
    prompts: Sequence[BoxesPrompt],
) -> Patched:
    """One model and one desideratum, all repeats: a session a batch."""
    compat = task_compat(experiment)
    size = experiment.batch_size
    units = [(repeat, start) for repeat in range(settings.repeats) for start in range(0, len(prompts), size)]
    found: list[list[Tensor]] = [[] for _ in range(settings.repeats)]
    drawn = [draw_pairs(rule, prompts, experiment.seed + repeat, compat) for repeat in range(settings.repeats)]
    for repeat, start in experiment.track(units, f"patching {model.name}: {rule.name}", len(units)):
        batch = encode_pairs(experiment, drawn[repeat][start : start + size], published_quirk(compat))
        found[repeat].append(patch_batch(experiment, model, circuit, batch))
    right = torch.stack([torch.cat(parts, 1) for parts in found], 1)
    names = [NOTHING, *(group.name for group in circuit.groups)]
    heads = {NOTHING: 0, **{group.name: len(group.heads) for group in circuit.groups}}
    return Patched(model.name, rule.name, heads, dict(zip(names, right, strict=True)))


def patch_batch(
    experiment: Experiment, model: Model, circuit: Circuit, batch: EncodedPairs
) -> Bool[Tensor, "variant batch"]:
    """Whether the target is answered: nothing patched, then each group."""
    sites, numbers = pair_sites(circuit, batch)
    inputs = {
        "clean": prompt_inputs(batch.clean),
        "source": prompt_inputs(batch.source),
        "sites": sites,
        "variants": [[], *(numbers[group.name] for group in circuit.groups)],
    }
    return experiment.runner.run(model, answer_from_source, inputs)["prediction"] == batch.clean.answers


def pair_sites(circuit: Circuit, batch: EncodedPairs) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """`group_sites` of the clean prompts, each with the place to read in the counterfactuals."""
    sites, numbers = group_sites(circuit, batch.clean)
    for group in circuit.groups:
        position = batch.source_position(group.role, f"circuit, group {group.name!r}")
        for number in numbers[group.name]:
            sites[number]["source_position"] = position
    return sites, numbers
