"""Score every head within its group, and prune the circuit."""

from __future__ import annotations

from typing import Any

from entitrack.core.circuits import Circuit, Group
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.methods.ablated_model import prepare
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.minimality.head_removal import HeadRemoval, Scores, choose_removed
from entitrack.methods.minimality.settings import Settings

STAGES = ("without K", "without K and v")


def run(experiment: Experiment, settings: Settings) -> Result:
    """Score every head within its group, and prune the circuit.

    Returns:
        See `Outcomes`: `[circuit, prompt]` of the circuit and the pruned one; under `removal.`, `[stage, head,
        prompt]` of the circuit without each head's K, and without the head too. `score` `[head]`;
        `pairs.GROUP` `[first, second]`, mean F without each pair of a group. The artefact `circuit` is the pruned one.
    """
    model = experiment.member(settings.model, "method.model")
    circuit = experiment.circuit(model)
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts, settings.ablation)
    removal = HeadRemoval(ablated, circuit, settings.metric, experiment.quirks)
    pairs = removal.pairs()
    first_removed = {
        group.name: [
            choose_removed(group.heads, index, pairs[group.name], settings.share, experiment.quirks)
            for index in range(len(group.heads))
        ]
        for group in circuit.groups
    }
    scores = removal.scores(first_removed)
    pruned = prune(circuit, scores, settings.threshold, model.name)
    outcomes = removal.answers([removal.without({}), ablated.live(pruned.groups)])
    measurements = outcomes.measurements(("circuit",), {"circuit": ("circuit", "pruned")}, prompt_set(prompts))
    if scores.outcomes is not None:
        labels = {"stage": STAGES, "head": [f"{one.group} {one.label}" for one in scores.heads]}
        of_heads = scores.outcomes.measurements(("stage", "head"), labels, prompt_set(prompts), "removal.")
        measurements |= {**of_heads, "score": Measurement(scores.values, ("head",), {"head": tuple(labels["head"])})}
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
        },
        measurements=measurements,
        artefacts={"circuit": pruned},
        words=experiment.words(*(entry.values for name, entry in measurements.items() if "prediction" in name)),
    )


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
