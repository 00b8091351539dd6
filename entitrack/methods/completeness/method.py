"""Remove each group, and random sets, from the circuit and from the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from entitrack.core.circuits import Circuit, Group, count_heads
from entitrack.core.result import Result
from entitrack.methods.ablated_model import AblatedModel, prepare
from entitrack.methods.completeness.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.outcomes import Outcomes


@dataclass(frozen=True)
class RemovedSet:
    """A set K of heads.

    Attributes:
        name: `nothing`, the group's, or `random 1` and so on.
        kind: What sort of set it is.
        groups: The heads, each in its group.
    """

    name: str
    kind: Literal["nothing", "group", "random"]
    groups: tuple[Group, ...]


def run(experiment: Experiment, settings: Settings) -> Result:
    """Remove each group, and random sets, from the circuit and from the model.

    Returns:
        See `Outcomes`, `[rest_of, set, prompt]`: what is left of the model and of the circuit without each set K.
    """
    model = experiment.member(settings.model, "method.model")
    circuit = experiment.circuit(model)
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts, settings.ablation)
    sets = [RemovedSet("nothing", "nothing", ())]
    sets += [RemovedSet(group.name, "group", (group,)) for group in circuit.groups if group.heads]
    sets += random_sets(circuit, settings.random_sets, settings.share, experiment.seed)
    outcomes = remove(ablated, circuit, sets)
    labels = {"rest_of": ("model", "circuit"), "set": tuple(one.name for one in sets)}
    listed = [{"name": one.name, "kind": one.kind, "heads": count_heads(one.groups)} for one in sets]
    return Result(
        method="completeness",
        facts={"model": model.name, "metric": settings.metric, "quirks": sorted(experiment.quirks), "sets": listed},
        measurements=outcomes.measurements(("rest_of", "set"), labels, prompt_set(prompts)),
        words=experiment.words(outcomes.prediction),
    )


def remove(ablated: AblatedModel, circuit: Circuit, sets: Sequence[RemovedSet]) -> Outcomes:
    """What is left of the model, and of the circuit, without each set: `[rest_of, set, prompt]`."""
    removed = torch.stack([ablated.live(one.groups) for one in sets])
    live = ablated.live(circuit.groups)
    of_circuit = ablated.run(torch.cat([live & ~removed, torch.zeros_like(live)[None]]), live)
    of_model = ablated.without(removed)
    return Outcomes.stacked([of_model, of_circuit[:-1]]).above(of_circuit.logit_difference[-1])


def random_sets(circuit: Circuit, count: int, share: float, seed: int) -> list[RemovedSet]:
    """Random sets of a circuit's heads; a set without heads is drawn again."""
    generator = torch.Generator().manual_seed(seed)
    sets: list[RemovedSet] = []
    listed = sum(len(group.heads) for group in circuit.groups)
    while len(sets) < count and listed:
        drawn = (torch.rand(listed, generator=generator) < share).tolist()
        if any(drawn):
            is_in = iter(drawn)
            groups = tuple(
                Group(group.name, group.role, tuple(head for head in group.heads if next(is_in)))
                for group in circuit.groups
            )
            sets.append(RemovedSet(f"random {len(sets) + 1}", "random", groups))
    return sets
