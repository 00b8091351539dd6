"""Patching every group in every model, for every desideratum and draw of counterfactuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.engine.masks import masked_answers
from entitrack.engine.moving import moved_answers
from entitrack.methods.activation_patching.settings import NOTHING, Settings
from entitrack.methods.activation_patching.units import (
    Unit,
    make_units,
    masked_inputs,
    moved_inputs,
    unit_predictions,
)
from entitrack.methods.desideratum_pairs import check_targets
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.models.family import Model
from entitrack.tasks.desiderata import find_desiderata


def run(experiment: Experiment, settings: Settings) -> Result:
    """Patch every group in every model, for every desideratum and draw.

    Returns:
        `correct` and `prediction` `[model, group, desideratum, repeat, prompt]`, the group `nothing` first;
        `target_logit`, the same for groups with heads; `target` `[desideratum, repeat, prompt]`, as a token.
    """
    rules = find_desiderata(experiment.task, settings.desiderata)
    names = experiment.members(settings.models, "method.models")
    masks = experiment.read_masks(settings.masks) if settings.masks else None
    circuit = experiment.circuit(experiment.base())
    circuit = Circuit(circuit.choose(settings.groups, "method.groups"), circuit.found_on)
    circuits = {
        rule.name: masks.narrow_circuit(circuit, rule.name, str(settings.masks)) if masks else circuit for rule in rules
    }
    prompts = experiment.task.prompts()
    drawn = [
        (rule.name, experiment.desideratum_pairs(rule, repeat)) for rule in rules for repeat in range(settings.repeats)
    ]
    pairs = [pair for _, of_one_draw in drawn for pair in of_one_draw]
    check_targets(experiment, pairs)
    units = make_units(experiment, circuits, drawn)
    answers = {}
    for name in names:
        model = experiment.member(name, "method.models", (pair.counterfactual for pair in pairs))
        circuit.check(model.anatomy, experiment.roles)
        answers[name] = patch_units(experiment, settings, model, circuit, units)
    heads = {name: {group.name: len(group.heads) for group in own.groups} for name, own in circuits.items()}
    measured = measurements(circuit, list(circuits), answers, _targets(units), prompt_set(prompts))
    return Result(
        method="activation_patching",
        facts={
            "quirks": sorted(experiment.quirks),
            "component": settings.component,
            "masks": f"{settings.masks}{masks.origin}" if masks else None,
            "heads": {group.name: {rule: heads[rule][group.name] for rule in heads} for group in circuit.groups},
        },
        measurements=measured,
        words=experiment.words(*(measured[name].values for name in ("prediction", "target"))),
    )


@dataclass(frozen=True)
class Answers:
    """What a model answers.

    Attributes:
        prediction: The most likely token, with nothing patched, then each group.
        target_logit: The target's logit, with each group that has heads patched.
    """

    prediction: Int[Tensor, "group draw prompt"] = field(repr=False)
    target_logit: Float[Tensor, "group draw prompt"] = field(repr=False)


def patch_units(
    experiment: Experiment, settings: Settings, model: Model, circuit: Circuit, units: Sequence[Unit]
) -> Answers:
    """Patch each group of the circuit in a model, a session for each unit."""
    of_heads = settings.component == "z"
    inputs = [
        masked_inputs(circuit, unit) if of_heads else moved_inputs(circuit, unit, settings.component) for unit in units
    ]
    function, budget = masked_answers if of_heads else moved_answers, {"gib": experiment.gib}
    outputs = experiment.sessions(model, function, inputs, f"patching {model.name}", settings=budget)
    groups = len(circuit.groups)
    with_heads = sum(bool(group.heads) for group in circuit.groups)
    draws, count = _extent(units)
    prediction = torch.zeros(1 + groups, draws, count, dtype=torch.long)
    target_logit = torch.zeros(with_heads, draws, count)
    for unit, output in zip(units, outputs, strict=True):
        prediction[:, unit.draws, unit.rows] = unit_predictions(circuit, output)
        target_logit[:, unit.draws, unit.rows] = output["target_logit"][:with_heads]
    return Answers(prediction, target_logit)


def _targets(units: Sequence[Unit]) -> Int[Tensor, "draw prompt"]:
    """The word that the patched run should answer, as a token."""
    targets = torch.zeros(*_extent(units), dtype=torch.long)
    for unit in units:
        targets[unit.draws, unit.rows] = torch.stack([pairs.clean.answers for pairs in unit.encoded])
    return targets


def _extent(units: Sequence[Unit]) -> tuple[int, int]:
    """Number of draws over all desiderata, and of prompts."""
    draws = 1 + max(max(unit.draws) for unit in units)
    return draws, max(unit.rows.start + len(unit.encoded[0].clean.answers) for unit in units)


def measurements(
    circuit: Circuit,
    rules: Sequence[str],
    answers: Mapping[str, Answers],
    targets: Int[Tensor, "draw prompt"],
    prompts: PromptSet,
) -> dict[str, Measurement]:
    """What the models answered, by group, desideratum and draw."""

    def by_desideratum(values: Tensor, *axes: str, **labels: tuple[str, ...]) -> Measurement:
        """Draws go by desideratum, then repeat."""
        split = rearrange(
            values, "... (desideratum repeat) prompt -> ... desideratum repeat prompt", desideratum=len(rules)
        )
        names = {"desideratum": tuple(rules), **labels}
        return Measurement(split, (*axes, "desideratum", "repeat", PROMPT), names, prompts)

    models = tuple(answers)
    groups = (NOTHING, *(group.name for group in circuit.groups))
    with_heads = tuple(group.name for group in circuit.groups if group.heads)
    prediction = torch.stack([answer.prediction for answer in answers.values()])
    target_logit = torch.stack([answer.target_logit for answer in answers.values()])
    return {
        "correct": by_desideratum(prediction == targets, "model", "group", model=models, group=groups),
        "prediction": by_desideratum(prediction, "model", "group", model=models, group=groups),
        "target_logit": by_desideratum(target_logit, "model", "group", model=models, group=with_heads),
        "target": by_desideratum(targets),
    }
