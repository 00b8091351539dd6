"""Put what a counterfactual has into the clean run, and count what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.core.circuits import Circuit, Group, read_circuit
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.engine.masks import masked_answers
from entitrack.engine.moving import moved_answers
from entitrack.methods.ability import ask_and_require
from entitrack.methods.activation_patching.settings import NOTHING
from entitrack.methods.activation_patching.units import (
    Unit,
    make_units,
    masked_inputs,
    moved_inputs,
    unit_predictions,
)
from entitrack.methods.binding.settings import MOVED, OTHER, OWN, PLACE, Settings
from entitrack.methods.desideratum_pairs import check_targets
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import CONTENT, READINGS, ApartPair, DesideratumPair, Separable
from entitrack.tasks.writing import TextPrompt, aim


def run(experiment: Experiment, settings: Settings) -> Result:
    """Patch the stream of every layer, and each group, in every member.

    Returns:
        `answered` `[model, unit, reading, prompt]`: whether it is what that reading says, of `READINGS`, `own`,
        `other` and `any of the three`; the unit `nothing` first, then layers, then groups. `prediction`
        `[model, unit, prompt]`.
    """
    if not isinstance(experiment.task, Separable):
        fix = "give it `apart(seed)`, or use boxes, operations or bindings"
        raise UserError(
            "task", f"task {experiment.task.name!r} does not pull position, letter and content apart", fix=fix
        )
    pairs = experiment.task.apart(experiment.seed)
    drawn = [DesideratumPair(pair.clean, pair.counterfactual, pair.readings[CONTENT]) for pair in pairs]
    check_targets(experiment, drawn)
    circuits = _circuits(experiment, settings)
    whole = Circuit(tuple(group for circuit in circuits.values() for group in circuit.groups))
    units = make_units(experiment, {"apart": whole}, [("apart", drawn)])
    prediction = {}
    for name in experiment.members(settings.models, "method.models"):
        model = experiment.member(name, "method.models", (pair.counterfactual for pair in pairs))
        whole.check(model.anatomy, experiment.roles)
        ask_and_require(experiment, settings, model, [pair.clean for pair in pairs])
        prediction[name] = torch.cat([_patched(experiment, settings, model, circuits, unit) for unit in units], -1)
    measured = torch.stack(list(prediction.values()))
    names = (NOTHING, *(group.name for group in whole.groups))
    prompts = _prompts(pairs)
    labels = {"model": tuple(prediction), "unit": names}
    answered, readings = _answered(experiment, measured, pairs)
    return Result(
        method="binding",
        facts={
            "base": experiment.family.base,
            "role": settings.role,
            "layers": [group.name for group in circuits["layers"].groups],
            "heads": {group.name: len(group.heads) for group in circuits["groups"].groups},
            "shown": settings.shown,
        },
        measurements={
            "answered": Measurement(
                answered, ("model", "unit", "reading", PROMPT), {**labels, "reading": readings}, prompts
            ),
            "prediction": Measurement(measured, ("model", "unit", PROMPT), labels, prompts),
        },
        words=experiment.words(measured),
    )


def _circuits(experiment: Experiment, settings: Settings) -> dict[str, Circuit]:
    """Every layer as a group of its own, and the groups of the circuit that is named.

    Raises:
        UserError: There is no such layer, role or circuit.
    """
    base = experiment.base()
    count = base.anatomy["n_layers"]
    for index, layer in enumerate(settings.layers):
        if not 0 <= layer < count or layer in settings.layers[:index]:
            problem = "is there twice" if layer in settings.layers[:index] else "is no layer"
            raise UserError(f"method.layers.{index}", f"{layer} {problem}", [f"0 to {count - 1}"])
    layers = settings.layers or range(count)
    found = {"layers": Circuit(tuple(Group(f"layer {la}", settings.role, ((la, 0),)) for la in layers))}
    if settings.role not in experiment.roles:
        raise UserError("method.role", f"the task has no role {settings.role!r}", experiment.roles)
    groups: tuple[Group, ...] = ()
    if settings.heads_of is not None:
        read = read_circuit(settings.heads_of, experiment.family.name, "method.heads_of")
        experiment.circuits[settings.heads_of] = read
        groups = read.with_roles(experiment.role_aliases).groups
    return {**found, "groups": Circuit(groups)}


def _patched(
    experiment: Experiment, settings: Settings, model: Model, circuits: Mapping[str, Circuit], unit: Unit
) -> Int[Tensor, "unit batch"]:
    """What a batch of prompts is answered with, nothing patched and then each layer and group."""
    budget, label = {"gib": experiment.gib}, f"binding {model.name}"
    layers, groups = circuits["layers"], circuits["groups"]
    inputs = [moved_inputs(layers, unit, "resid_pre")]
    (output,) = experiment.sessions(model, moved_answers, inputs, label, settings=budget)
    found = unit_predictions(layers, output)[:, 0]
    if not groups.groups:
        return found
    of_groups = replace(unit, circuits=[groups] * len(unit.draws))
    (output,) = experiment.sessions(model, masked_answers, [masked_inputs(groups, of_groups)], label, settings=budget)
    return torch.cat([found, unit_predictions(groups, output)[1:, 0]])


def _answered(
    experiment: Experiment, prediction: Int[Tensor, "model unit prompt"], pairs: Sequence[ApartPair]
) -> tuple[Bool[Tensor, "model unit reading prompt"], tuple[str, ...]]:
    """Whether each answer is what a reading says, and the names of the readings."""
    words = {name: [aim(pair.clean, pair.readings[name]) for pair in pairs] for name in READINGS}
    words[OWN] = [aim(pair.clean, pair.clean.answer) for pair in pairs]
    tokens = {name: torch.cat([batch.answers for batch in _batches(experiment, of)]) for name, of in words.items()}
    said = torch.stack([prediction == of for of in tokens.values()], 2)
    other, moved = ~said.any(2, keepdim=True), said[:, :, : len(READINGS)].any(2, keepdim=True)
    return torch.cat([said, other, moved], 2), (*tokens, OTHER, MOVED)


def _batches(experiment: Experiment, prompts: Sequence[TextPrompt]) -> list[EncodedBatch]:
    return [experiment.encode(part) for part in experiment.by_batch(prompts)]


def _prompts(pairs: Sequence[ApartPair]) -> PromptSet:
    """The clean prompts, with the place that the counterfactual asks for as their only facet."""
    clean = prompt_set([pair.clean for pair in pairs])
    return replace(clean, facets={PLACE: torch.tensor([pair.place for pair in pairs])})
