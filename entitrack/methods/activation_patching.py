"""Does the same group carry the same thing in the donors? (paper, section 5, figure 4).

What moves: z of a group's heads at its role, from the counterfactual to the clean prompt, in one model. What is right:
the desideratum's target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.circuits import Circuit, Group
from entitrack.engine.masks import masked_answers
from entitrack.limits import MethodSettings, limited
from entitrack.masks import read_masks
from entitrack.methods.experiment import Cell, Experiment, Table, clusters
from entitrack.methods.pairs import (
    EncodedPairs,
    box_prompts,
    draw_pairs,
    encode_pairs,
    head_positions,
    pair_inputs,
    published_quirk,
    task_compat,
)
from entitrack.stats import Estimate, estimate
from entitrack.tasks.desiderata import DesideratumPair, find_desiderata
from entitrack.tasks.prompts import LAST

NOTHING = "nothing"


@dataclass
class Settings(MethodSettings):
    """Settings of `method=activation_patching`.

    Attributes:
        models: Members of the family; empty takes all.
        desiderata: Names, `paper`, `extra` or `all`, or `module:Class` for one's own.
        groups: Groups to patch, one by one; empty takes all of the circuit's.
        masks: `masks.json` of `method=dcm`, whose heads are patched; empty patches whole groups.
        repeats: How often the counterfactuals are drawn (the paper: 10).
        chunk_tokens: At most this many tokens go through the model at once.
    """

    models: list[str] = field(default_factory=list)
    desiderata: list[str] = field(default_factory=lambda: ["paper"])
    groups: list[str] = field(default_factory=list)
    masks: str = ""
    repeats: int = limited(3, least=1)
    chunk_tokens: int = limited(8192, least=1)


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
    """Patch every group in every model, for every desideratum and draw."""
    rules = find_desiderata(settings.desiderata)
    circuit = experiment.circuit(experiment.base())
    circuit = Circuit(circuit.choose(settings.groups, "method.groups"), circuit.found_on)
    masks = read_masks(settings.masks) if settings.masks else None
    circuits = {
        rule.name: masks.narrow_circuit(circuit, rule.name, settings.masks) if masks else circuit for rule in rules
    }
    prompts, compat = box_prompts(experiment), task_compat(experiment)
    drawn = [
        (rule.name, draw_pairs(rule, prompts, experiment.seed + repeat, compat))
        for rule in rules
        for repeat in range(settings.repeats)
    ]
    units = make_units(experiment, circuits, drawn)
    asked = [unit_inputs(circuit, unit) for unit in units]
    patched: list[Patched] = []
    for name in settings.models or list(experiment.family.members):
        model = experiment.family.load(name, "method.models")
        circuit.check(model.anatomy, experiment.task.roles)
        correct = torch.zeros(1 + len(circuit.groups), len(drawn), len(prompts), dtype=torch.bool)
        chunk = {"chunk_tokens": settings.chunk_tokens}
        answers = experiment.sessions(model, masked_answers, asked, f"patching {name}", settings=chunk)
        for unit, inputs, found in zip(units, asked, answers, strict=True):
            correct[:, unit.draws, unit.rows] = unit_predictions(circuit, found) == inputs["batch"]["targets"]
        for number, rule in enumerate(rules):
            own = correct[:, number * settings.repeats : (number + 1) * settings.repeats]
            heads = {NOTHING: 0, **{group.name: len(group.heads) for group in circuits[rule.name].groups}}
            patched.append(Patched(name, rule.name, heads, dict(zip(heads, own, strict=True))))
    words = f"the heads of the masks in {settings.masks}" if masks else "all heads of each group"
    return ActivationPatchingResult(tuple(patched), clusters(prompts), words)


_NOBODY = Group(NOTHING, LAST, ((0, 0),))
"""Run in place of a circuit without heads; its head is never patched."""

Drawn = Sequence[tuple[str, Sequence[DesideratumPair]]]
"""Name of a desideratum, and pairs; once for every desideratum and draw."""


@dataclass(frozen=True)
class Unit:
    """Some prompts, with all counterfactuals that they are patched from: a session a model.

    Attributes:
        rows: Which prompts.
        draws: Numbers of the draws, over all desiderata.
        encoded: The pairs of each draw.
        circuits: For each draw, the heads that are patched.
    """

    rows: slice
    draws: list[int]
    encoded: list[EncodedPairs]
    circuits: list[Circuit]


def make_units(experiment: Experiment, circuits: Mapping[str, Circuit], drawn: Drawn) -> list[Unit]:
    """The pairs in batches. Draws of the same clean prompts go together."""
    quirk = published_quirk(task_compat(experiment))
    together: dict[tuple[str, ...], list[int]] = {}
    for number, (_, pairs) in enumerate(drawn):
        together.setdefault(tuple(pair.clean.text for pair in pairs), []).append(number)
    units = []
    for numbers in together.values():
        for start in range(0, len(drawn[0][1]), experiment.batch_size):
            rows = slice(start, start + experiment.batch_size)
            encoded = [encode_pairs(experiment, drawn[number][1][rows], quirk) for number in numbers]
            units.append(Unit(rows, numbers, encoded, [circuits[drawn[number][0]] for number in numbers]))
    return units


def unit_inputs(circuit: Circuit, unit: Unit) -> dict[str, Any]:
    """What `masked_answers` needs to patch each group from each draw."""
    full = [group for group in circuit.groups if group.heads] or [_NOBODY]
    return {
        "groups": [
            {"heads": [list(head) for head in group.heads], **head_positions(group, unit.encoded)} for group in full
        ],
        "batch": pair_inputs(unit.encoded),
        "masks": [torch.stack([kept_heads(group, found) for found in unit.circuits]) for group in full],
        "draws": list(range(len(unit.draws))),
    }


def unit_predictions(circuit: Circuit, found: Mapping[str, Tensor]) -> Int[Tensor, "group draw batch"]:
    """What is answered: nothing patched, then each group; a group without heads changes nothing."""
    own = found["own"].expand_as(found["prediction"][0])
    answered = iter(found["prediction"])
    return torch.stack([own, *(next(answered) if group.heads else own for group in circuit.groups)])


def kept_heads(group: Group, circuit: Circuit) -> Float[Tensor, " head"]:
    """The mask that patches the heads that a circuit has of the group: 1 keeps a head's own z."""
    patched = next((found.heads for found in circuit.groups if found.name == group.name), ())
    return torch.tensor([0.0 if head in patched else 1.0 for head in group.heads])
