"""Score every head within its group, and prune the circuit.

What is removed first, and which heads stay, is chosen on the contexts to search on; what that does is measured on those
to judge on.
"""

from __future__ import annotations

from typing import Any

from entitrack.core.circuits import Circuit, Group
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.methods.ability import ask_and_require
from entitrack.methods.ablated_model import prepare
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.minimality.head_removal import HeadRemoval, Scores, choose_removed
from entitrack.methods.minimality.settings import Settings
from entitrack.models.family import Model

STAGES = ("without K", "without K and v")


def run(experiment: Experiment, settings: Settings) -> Result:
    """Score every head within its group, and prune the circuit.

    Returns:
        See `Outcomes`: `[circuit, prompt]` of the circuit and the pruned one; under `removal.`, `[stage, head,
        prompt]` of the circuit without each head's K, and without the head too. Of the prompts that choices are made
        on: `score` `[head]`, and `pairs.GROUP` `[first, second]`, mean F without each pair of a group. The artefact
        `circuit` is the pruned one.
    """
    model = experiment.member(settings.model, "method.model")
    circuit = experiment.circuit(model)
    searched, prompts = experiment.on_search(), experiment.task.prompts()
    ask_and_require(experiment, settings, model, searched.task.prompts())
    search = _removal(searched, model, circuit, settings)
    removal = search if searched.task == experiment.task else _removal(experiment, model, circuit, settings)
    pairs = search.pairs()
    first_removed = {
        group.name: [
            choose_removed(group.heads, index, pairs[group.name], settings.share, experiment.quirks)
            for index in range(len(group.heads))
        ]
        for group in circuit.groups
    }
    chosen_by = search.scores(first_removed)
    scores = chosen_by if removal is search else removal.scores(first_removed)
    pruned = prune(circuit, chosen_by, settings.threshold, model.name)
    outcomes = removal.answers([removal.without({}), removal.ablated.live(pruned.groups)])
    measurements = outcomes.measurements(("circuit",), {"circuit": ("circuit", "pruned")}, prompt_set(prompts))
    if scores.outcomes is not None:
        labels = {"stage": STAGES, "head": [f"{one.group} {one.label}" for one in scores.heads]}
        of_heads = scores.outcomes.measurements(("stage", "head"), labels, prompt_set(prompts), "removal.")
        measurements |= {**of_heads, "score": Measurement(chosen_by.values, ("head",), {"head": tuple(labels["head"])})}
    for group in circuit.groups:
        names = tuple(f"{layer}.{head}" for layer, head in group.heads)
        named = {"first": names, "second": names}
        measurements[f"pairs.{group.name}"] = Measurement(pairs[group.name], ("first", "second"), named)
    return Result(
        method="minimality",
        facts={
            "model": model.name,
            "metric": settings.metric,
            "quirks": sorted(experiment.quirks),
            "threshold": settings.threshold,
            "circuit_heads": circuit.size,
            "pruned_heads": pruned.size,
            "heads": [one.record() for one in scores.heads],
            "chosen_apart": removal is not search,
        },
        measurements=measurements,
        artefacts={"circuit": pruned},
        words=experiment.words(*(entry.values for name, entry in measurements.items() if "prediction" in name)),
    )


def _removal(experiment: Experiment, model: Model, circuit: Circuit, settings: Settings) -> HeadRemoval:
    """The circuit on an experiment's prompts, to remove heads of."""
    roles = [group.role for group in circuit.groups]
    ablated = prepare(experiment, model, roles, settings, experiment.task.prompts(), settings.ablation)
    return HeadRemoval(ablated, circuit, settings.metric, experiment.quirks)


def prune(circuit: Circuit, scores: Scores, threshold: float, model: str) -> Circuit:
    """The circuit with only those heads whose score reaches the threshold."""
    values = zip(scores.heads, scores.values.tolist(), strict=True)
    staying = {(one.group, one.head) for one, score in values if score >= threshold}
    groups = tuple(
        Group(group.name, group.role, tuple(head for head in group.heads if (group.name, head) in staying))
        for group in circuit.groups
    )
    pruned: dict[str, Any] = {"method": "minimality", "model": model, "threshold": threshold}
    return Circuit(groups, {**circuit.found_on, "pruned": pruned})
