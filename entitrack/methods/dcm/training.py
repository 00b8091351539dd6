"""Training the masks of a group and desideratum, and answering the test prompts under them and their brackets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.quirks import Quirk
from entitrack.engine.dcm import HALF, train_masks
from entitrack.engine.masks import masked_answers
from entitrack.methods.dcm.settings import Settings
from entitrack.methods.dcm.splits import Splits, batch_inputs
from entitrack.methods.experiment import Experiment
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.protocol import PREV_QUERY_LABEL

PATCHED = ("mask", "whole group", "nothing")
"""What is patched on the test prompts: the mask's heads, and its brackets."""


@dataclass(frozen=True)
class Unit:
    """Masks that are trained together: those of one group and desideratum.

    Attributes:
        group: The group, with heads.
        desideratum: Name of the desideratum.
        splits: Its pairs, in every draw.
    """

    group: Group
    desideratum: str
    splits: Splits

    @property
    def names(self) -> dict[str, str]:
        """Names of group and desideratum."""
        return {"group": self.group.name, "desideratum": self.desideratum}


@dataclass(frozen=True)
class Mask:
    """One of a unit's masks.

    Attributes:
        sparsity: Number of its weight.
        draw: Number of its draw of counterfactuals.
    """

    sparsity: int
    draw: int


@dataclass(frozen=True)
class Trained:
    """The masks of a unit, one for each weight and draw.

    Attributes:
        unit: What they are trained for.
        trajectory: Each mask after each step.
        losses: Loss of each step.
        validated_at: Steps after which the rounded masks were validated.
        validation: Share of validation targets answered then.
        kept: The rounded mask of the best validation; 1 keeps a head's own z.
        best_validation: Its share of validation targets answered.
        targets: The word that the patched run should answer, as a token.
        prediction: What is answered on the test prompts, patched as in `PATCHED`.
        target_logit: The target's logit there.
    """

    unit: Unit
    trajectory: Float[Tensor, "sparsity draw step head"] = field(repr=False)
    losses: Float[Tensor, "sparsity draw step"] = field(repr=False)
    validated_at: Int[Tensor, " evaluation"] = field(repr=False)
    validation: Float[Tensor, "sparsity draw evaluation"] = field(repr=False)
    kept: Float[Tensor, "sparsity draw head"] = field(repr=False)
    best_validation: Float[Tensor, "sparsity draw"] = field(repr=False)
    targets: Int[Tensor, "draw prompt"] = field(repr=False)
    prediction: Int[Tensor, "sparsity draw patched prompt"] = field(repr=False)
    target_logit: Float[Tensor, "sparsity draw patched prompt"] = field(repr=False)

    def patched_heads(self, mask: Mask) -> tuple[Head, ...]:
        """The heads that a mask takes from the counterfactual, the group's most important first."""
        kept = self.kept[mask.sparsity, mask.draw].tolist()
        return tuple(head for head, keeps in zip(self.unit.group.heads, kept, strict=True) if keeps < HALF)

    @property
    def best(self) -> Mask:
        """The mask of the best validation; of the larger set on a tie."""
        weights, draws = self.best_validation.shape
        masks = [Mask(weight, draw) for draw in range(draws) for weight in range(weights)]
        return max(masks, key=self._rank)

    def _rank(self, mask: Mask) -> tuple[float, int]:
        return float(self.best_validation[mask.sparsity, mask.draw]), len(self.patched_heads(mask))


def train_and_test(experiment: Experiment, settings: Settings, model: Model, units: Sequence[Unit]) -> list[Trained]:
    """All masks: a session to train those of a unit, and one for each batch of its test prompts."""
    budget = {"gib": experiment.gib}
    inputs = [_train_inputs(experiment, settings, unit) for unit in units]
    description = f"dcm on {model.name}"
    trainings = list(experiment.sessions(model, train_masks, inputs, f"{description}: training", settings=budget))
    tests = [
        _test_inputs(experiment, settings, unit, training["kept"])
        for unit, training in zip(units, trainings, strict=True)
    ]
    batches = [batch for test in tests for batch in test]
    answers = experiment.sessions(model, masked_answers, batches, f"{description}: test", settings=budget)
    trained = []
    for unit, training, test in zip(units, trainings, tests, strict=True):
        targets = torch.cat([batch["batch"]["targets"] for batch in test], 1)
        trained.append(_trained(settings, unit, training, targets, [next(answers) for _ in test]))
    return trained


def _plan(settings: Settings) -> list[tuple[int, float]]:
    """Draw and weight of each mask, in the order in which they are trained and tested."""
    return [(draw, weight) for draw in range(settings.draws) for weight in settings.sparsity]


def _train_inputs(experiment: Experiment, settings: Settings, unit: Unit) -> dict[str, Any]:
    """What `train_masks` takes."""
    group, splits, plan = unit.group, unit.splits, _plan(settings)
    batches = batch_inputs(experiment, splits.train, group, settings.batch_size)
    return {
        "heads": [list(head) for head in group.heads],
        "batches": batches,
        "validation": batch_inputs(experiment, splits.validation, group, settings.batch_size),
        "draws": [draw for draw, _ in plan],
        "sparsity": [weight for _, weight in plan],
        "learning_rate": settings.learning_rate,
        "borrow_positions": Quirk.TRAINING_POSITION in experiment.quirks and group.role == PREV_QUERY_LABEL,
        **_schedule(settings, len(batches), Quirk.TWO_EPOCHS in experiment.quirks),
    }


def _schedule(settings: Settings, batches: int, two_epochs: bool) -> dict[str, Any]:
    """How many steps are taken, and when masks are validated: of `train_masks`.

    Args:
        settings: What was asked for.
        batches: Training batches of an epoch.
        two_epochs: As published: two epochs whatever comes of them, validated first after the first step.
    """
    every = settings.evaluate_every
    if two_epochs:
        return {"steps": 2 * batches, "validate_after": [*range(1, 2 * batches + 1, every)], "patience": 0}
    validate_after = sorted({*range(every, settings.steps + 1, every), settings.steps})
    return {"steps": settings.steps, "validate_after": validate_after, "patience": settings.patience or 0}


def _test_inputs(
    experiment: Experiment, settings: Settings, unit: Unit, kept: Float[Tensor, "mask head"]
) -> list[dict[str, Any]]:
    """What `masked_answers` takes for the test batches: the trained masks, then the whole group and nothing a draw."""
    heads, every_draw = unit.group.heads, list(range(settings.draws))
    whole_group = torch.zeros(settings.draws, len(heads))
    inputs = []
    for batch in batch_inputs(experiment, unit.splits.test, unit.group, experiment.batch_size):
        places = {name: batch.pop(name) for name in ("positions", "source_positions")}
        inputs.append(
            {
                "groups": [{"heads": [list(head) for head in heads], **places}],
                "batch": batch,
                "masks": [torch.cat([kept, whole_group, 1 - whole_group])],
                "draws": [*(draw for draw, _ in _plan(settings)), *every_draw, *every_draw],
            }
        )
    return inputs


def _trained(
    settings: Settings,
    unit: Unit,
    training: Mapping[str, Tensor],
    targets: Int[Tensor, "draw prompt"],
    answers: Sequence[Mapping[str, Tensor]],
) -> Trained:
    """What sessions gave, by weight and draw."""
    weights = len(settings.sparsity)

    def by_mask(values: Tensor, axes: str) -> Tensor:
        """Masks go by draw, then weight; `axes` says where they stand."""
        after = axes.replace("mask ", "")
        before = axes.replace("mask", "(draw sparsity)")
        return rearrange(values, f"{before} -> sparsity draw {after}", sparsity=weights)

    def between_brackets(name: str) -> Tensor:
        """One value of the test, for the mask, the whole group and nothing."""
        values = torch.cat([answer[name][0] for answer in answers], 1)
        masks, whole_group, nothing = values.split([weights * settings.draws, settings.draws, settings.draws])
        brackets = [bracket.expand(weights, *bracket.shape) for bracket in (whole_group, nothing)]
        return torch.stack([by_mask(masks, "mask prompt"), *brackets], 2)

    return Trained(
        unit=unit,
        trajectory=by_mask(training["masks"], "step mask head"),
        losses=by_mask(training["losses"], "step mask "),
        validated_at=training["validated_at"],
        validation=by_mask(training["validated"], "evaluation mask "),
        kept=by_mask(training["kept"], "mask head"),
        best_validation=by_mask(training["kept_accuracy"], "mask "),
        targets=targets,
        prediction=between_brackets("prediction"),
        target_logit=between_brackets("target_logit"),
    )
