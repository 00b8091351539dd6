"""What mask training found, as measurements with named axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.measurement import PROMPT, STEP, Measurement, PromptSet
from entitrack.methods.dcm.training import PATCHED, Trained
from entitrack.models.anatomy import Head

BY_MASK = ("group", "desideratum", "sparsity", "draw")
"""Axes that tell masks apart."""


def measurements(
    sparsity: Sequence[float], trained: Sequence[Sequence[Trained]], prompts: PromptSet
) -> dict[str, Measurement]:
    """What was trained and tested; see `method.run`.

    Args:
        sparsity: The weights.
        trained: The masks by group and desideratum.
        prompts: The test prompts.
    """
    first = trained[0]
    labels = {
        "group": tuple(row[0].unit.group.name for row in trained),
        "desideratum": tuple(masks.unit.desideratum for masks in first),
        "sparsity": tuple(str(weight) for weight in sparsity),
    }

    def measured(value: Callable[[Trained], Tensor], *axes: str, **names: tuple[str, ...]) -> Measurement:
        values = torch.stack([torch.stack([value(masks) for masks in row]) for row in trained])
        return Measurement(values, (*BY_MASK, *axes), {**labels, **names}, prompts if PROMPT in axes else None)

    every = [masks for row in trained for masks in row]
    steps = max(masks.losses.shape[-1] for masks in every)
    validated_at = max((masks.validated_at.tolist() for masks in every), key=len)
    heads = list(dict.fromkeys(head for row in trained for head in row[0].unit.group.heads))
    step_names, head_names = tuple(str(step + 1) for step in range(steps)), tuple(f"{la}.{he}" for la, he in heads)
    targets = torch.stack([masks.targets for masks in first])
    prediction = measured(lambda masks: masks.prediction, "patched", PROMPT, patched=PATCHED)
    correct = prediction.values == targets[:, None, :, None]  # the same in every group, weight, and way to patch
    return {
        "correct": Measurement(correct, prediction.axes, prediction.labels, prompts),
        "prediction": prediction,
        "target_logit": measured(lambda masks: masks.target_logit, "patched", PROMPT, patched=PATCHED),
        "target": Measurement(
            targets, ("desideratum", "draw", PROMPT), {"desideratum": labels["desideratum"]}, prompts
        ),
        "best_validation": measured(lambda masks: masks.best_validation),
        "patched_heads": measured(
            lambda masks: _at_heads(masks.kept, masks.unit.group, heads) == 0, "head", head=head_names
        ),
        "mask": measured(
            lambda masks: _at_heads(_until(masks.trajectory, steps, axis=-2), masks.unit.group, heads),
            *(STEP, "head"),
            step=step_names,
            head=head_names,
        ),
        "loss": measured(lambda masks: _until(masks.losses, steps), STEP, step=step_names),
        "validation": measured(
            lambda masks: _until(masks.validation, len(validated_at)),
            STEP,
            step=tuple(str(step) for step in validated_at),
        ),
    }


def _until(values: Tensor, size: int, axis: int = -1) -> Tensor:
    """Values along an axis that is made longer; not numbers where they were not yet."""
    shape = list(values.shape)
    shape[axis] = size - shape[axis]
    return torch.cat([values, values.new_full(shape, torch.nan)], axis)


def _at_heads(values: Tensor, group: Group, heads: Sequence[Head]) -> Tensor:
    """Values of a group's heads along an axis of all heads; not numbers where they are not the group's."""
    placed = values.new_full((*values.shape[:-1], len(heads)), torch.nan)
    placed[..., [heads.index(head) for head in group.heads]] = values
    return placed
