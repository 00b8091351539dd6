"""Stages as interventions take them: clean and counterfactual prompts, the stage's positions, and the receivers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.circuits import check_group_name
from entitrack.core.errors import UserError, quoted
from entitrack.core.quirks import Quirk
from entitrack.core.stages import Stage
from entitrack.methods.experiment import Experiment, prompt_inputs, role_positions
from entitrack.models.anatomy import Head, kv_groups
from entitrack.models.family import Model
from entitrack.tasks.protocol import PREV_QUERY_LABEL, Pair, Published

LOGITS = "logits"


def stages_of(experiment: Experiment, stages: Sequence[Stage] | None) -> list[Stage]:
    """The stages that a run goes through: those that it is told, or the task's own; roles have the task's names.

    Raises:
        UserError: The task says none, or they cannot run.
    """
    task = experiment.task
    found = list(task.stages if stages is None else stages)
    if not found:
        fix = "give it `stages`, or say method.stages=[{name: ..., role: last}]"
        raise UserError("method.stages", f"task {task.name!r} has no stages of its own", fix=fix)
    aliases = experiment.role_aliases
    named = [stage.model_copy(update={"role": aliases.get(stage.role, stage.role)}) for stage in found]
    check_stages(named, experiment.roles)
    return named


def check_stages(stages: Sequence[Stage], roles: Sequence[str]) -> None:
    """Refuse stages that cannot run.

    Raises:
        UserError: Naming the stage's key.
    """
    before: dict[str, Stage] = {}
    for number, stage in enumerate(stages):
        place = f"method.stages.{number}"
        check_group_name(stage.name, f"{place}.name")
        if stage.role not in roles:
            raise UserError(f"{place}.role", f"the task has no role {quoted(stage.role)}", roles)
        if stage.name in before:
            raise UserError(f"{place}.name", f"two stages are called {stage.name!r}")
        if (stage.component == LOGITS) != (stage.receivers is None):
            raise UserError(f"{place}.receivers", "logits have no receivers, q, k and v need them")
        if stage.receivers is not None and stage.receivers not in before:
            raise UserError(f"{place}.receivers", f"no earlier stage {quoted(stage.receivers)}", before)
        receivers = before[stage.receivers] if stage.receivers is not None else None
        if stage.component == "q" and receivers and receivers.role != stage.role:
            raise UserError(f"{place}.role", f"q is read where the receivers are, at {receivers.role!r}")
        before[stage.name] = stage


def stage_batches(
    experiment: Experiment, model: Model, pairs: Sequence[Pair], stage: Stage, heads: Sequence[Head]
) -> list[dict[str, Any]]:
    """What the interventions of path patching take, batch by batch: `clean`, `source` and `receivers`.

    Args:
        experiment: Where prompts are tokenized.
        model: The model.
        pairs: Clean and counterfactual prompts.
        stage: The stage.
        heads: The heads that receive.
    """
    receivers: dict[str, Any] = {"component": stage.component}
    if stage.component != LOGITS:
        grouped = heads if stage.component == "q" else kv_groups(model.anatomy, heads)
        receivers["heads"] = [list(head) for head in grouped]
    size = experiment.batch_size
    return [
        {**stage_prompts(experiment, model, pairs[start : start + size], stage, start), "receivers": receivers}
        for start in range(0, len(pairs), size)
    ]


def stage_prompts(
    experiment: Experiment, model: Model, pairs: Sequence[Pair], stage: Stage, start: int
) -> dict[str, Any]:
    """Clean and counterfactual prompts of a batch, with the positions of the stage's role."""
    clean = experiment.encode([pair.clean for pair in pairs])
    other = experiment.encode([pair.counterfactual for pair in pairs])
    place = f"stage {stage.name!r}"
    position = role_positions(other, stage.role, place)
    if stage.role == PREV_QUERY_LABEL and Quirk.REDRAWN_POSITION in experiment.quirks:
        position = _redrawn_positions(experiment, model, pairs, start)
    return {
        "clean": {**prompt_inputs(clean), "position": role_positions(clean, stage.role, place)},
        "source": {"tokens": other.tokens, "mask": other.mask, "position": position},
    }


def _redrawn_positions(
    experiment: Experiment, model: Model, pairs: Sequence[Pair], start: int
) -> Int[Tensor, "layer head batch"]:
    """The published procedure's places to read: a box label drawn anew for every head, layer and batch."""
    task = experiment.task
    assert isinstance(task, Published)
    asked = list(zip(*(task.elsewhere(pair.counterfactual) for pair in pairs), strict=False))  # as many as all have
    labels = torch.stack([experiment.encode(prompts).positions[PREV_QUERY_LABEL] for prompts in asked])
    random = Random(f"source/{experiment.seed}/{start}")
    layers, heads = model.anatomy["n_layers"], model.anatomy["n_heads"]
    drawn = torch.tensor([[random.randrange(len(asked)) for _ in range(heads)] for _ in range(layers)])
    return labels[drawn]
