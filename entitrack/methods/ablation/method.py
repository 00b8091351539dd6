"""Ablate each component of each layer at each role: one session a batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.errors import UserError, quoted
from entitrack.core.result import Result
from entitrack.engine.component_ablation import answer_ablated, total_components
from entitrack.methods.ablated_model import background_batches, joined_batches, one_length
from entitrack.methods.ablation.settings import RANDOM, Settings
from entitrack.methods.experiment import Experiment, prompt_set, question_inputs, role_positions
from entitrack.methods.outcomes import Outcomes
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch


def run(experiment: Experiment, settings: Settings) -> Result:
    """Ablate each component of each layer at each role.

    Returns:
        See `Outcomes`: `[component, layer, role, prompt]`, the role drawn at random last; and the same of the model as
        it is, named `intact.*`, `[prompt]`.
    """
    experiment = replace(experiment, padding="right")
    model = experiment.member(settings.model, "method.model")
    roles = roles_of(experiment, settings)
    components = list(dict.fromkeys(settings.components))
    prompts = experiment.task.prompts()
    batches = experiment.encoded(prompts)
    fills = make_fills(experiment, model, settings, components, batches)
    random = Random(f"ablation/{experiment.seed}")
    inputs = []
    for part, batch, fill in zip(experiment.by_batch(prompts), batches, fills, strict=True):
        positions = positions_of(batch, roles, random if settings.control else None)
        inputs.append({"prompts": question_inputs(experiment, part, batch), "positions": positions, "fill": fill})
    label, asked = f"ablation: {model.name}", {"components": components}
    answered = list(experiment.sessions(model, answer_ablated, inputs, label, settings=asked))
    outcomes = Outcomes.of(joined_batches(answered), torch.cat([batch.answers for batch in batches]))
    names = [*roles, *([RANDOM] if settings.control else [])]
    layers = [str(layer) for layer in range(model.anatomy["n_layers"])]
    labels, kept = {"component": components, "layer": layers, "role": names}, prompt_set(prompts)
    ablated = outcomes[1:].unflattened(len(components), len(layers), len(names))
    return Result(
        method="ablation",
        facts={"model": model.name, "metric": settings.metric, "ablation": settings.ablation},
        measurements={
            **ablated.measurements(("component", "layer", "role"), labels, kept),
            **outcomes[0].measurements((), {}, kept, "intact."),
        },
        words=experiment.words(outcomes.prediction),
    )


def roles_of(experiment: Experiment, settings: Settings) -> list[str]:
    """The roles that a run is told, or those of the task's stages, or without any all that it names.

    Raises:
        UserError: The task does not have one: its key is named.
    """
    for number, role in enumerate(settings.roles or ()):
        if role not in experiment.roles:
            problem = f"the task has no role {quoted(role)}"
            raise UserError(f"method.roles.{number}", problem, experiment.roles)
    of_stages = [stage.role for stage in experiment.task.stages]
    return list(dict.fromkeys(settings.roles or of_stages or experiment.task.roles))


def positions_of(batch: EncodedBatch, roles: Sequence[str], random: Random | None) -> Int[Tensor, "role batch"]:
    """Token positions of the roles; with a source of chance, then of a token that is neither the first nor a role's.

    Raises:
        UserError: There is no such token.
    """
    positions = torch.stack([role_positions(batch, role, "method.roles") for role in roles])
    if random is None:
        return positions
    drawn = []
    for taken, length in zip(positions.T.tolist(), batch.mask.sum(1).tolist(), strict=True):
        free = [index for index in range(1, length) if index not in taken]
        if not free:
            raise UserError("method.control", "every token is at a role", fix="method.control=false")
        drawn.append(random.choice(free))
    return torch.cat([positions, torch.tensor([drawn])])


def make_fills(
    experiment: Experiment,
    model: Model,
    settings: Settings,
    components: Sequence[str],
    batches: Sequence[EncodedBatch],
) -> list[dict[str, Any]]:
    """What ablated components become, for each batch of prompts.

    Raises:
        UserError: Prompts differ in length.
    """
    if settings.ablation == "zero":
        return [{}] * len(batches)
    length = one_length(batches, "task")
    if settings.ablation == "resample":
        others = background_batches(experiment, sum(len(batch) for batch in batches), length)
        return [{"tokens": other.tokens, "mask": other.mask} for other in others]
    means = mean_components(experiment, model, components, settings.mean_count, length)
    return [{"values": means}] * len(batches)


def mean_components(
    experiment: Experiment, model: Model, components: Sequence[str], count: int, length: int
) -> Float[Tensor, "component layer token d_model"]:
    """Mean of each component at every token index, over prompts with random content."""
    batches = background_batches(experiment, count, length)
    inputs = [{"prompts": {"tokens": batch.tokens, "mask": batch.mask}} for batch in batches]
    label, asked = f"mean components: {model.name}", {"components": list(components)}
    outputs = experiment.sessions(model, total_components, inputs, label, settings=asked)
    return (torch.stack([output["total"].double() for output in outputs]).sum(0) / count).float()
