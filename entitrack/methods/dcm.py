"""What does each group carry? Desiderata-based component masking (paper, section 5; Davies et al. 2023).

A mask over the heads of a group says which of them take their z, at the group's role, from the counterfactual. It is
trained so that the desideratum's target is answered with as many heads left alone as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from entitrack.circuits import Group
from entitrack.errors import UserError
from entitrack.interventions.dcm import train_masks
from entitrack.interventions.masking import masked_answers
from entitrack.methods.dcm_data import Splits, batch_inputs, split
from entitrack.methods.dcm_result import DcmResult, Trained
from entitrack.methods.experiment import Experiment
from entitrack.methods.pairs import box_prompts, draw_pairs, task_compat
from entitrack.models.family import Model
from entitrack.tasks.desiderata import Desideratum, find_desiderata
from entitrack.tasks.prompts import PREV_QUERY_LABEL


@dataclass
class Settings:
    """Settings of `method=dcm`.

    Attributes:
        model: Member of the family; empty takes the base.
        desiderata: Names, `paper`, `extra` or `all`, or `module:Class` for one's own.
        groups: Groups to train masks for; empty takes all of the circuit's.
        sparsity: Weights (lambda) of the number of heads taken from the counterfactual: a mask for each.
        draws: How often the counterfactuals are drawn: a mask for each.
        steps: At most this many steps; the training prompts are gone through again and again.
        batch_size: Training prompts a step.
        learning_rate: Of Adam.
        evaluate_every: Steps between evaluations on the validation prompts.
        patience: Evaluations without a better accuracy after which a mask is done; 0: never.
        chunk_tokens: At most this many tokens go through the model at once.
    """

    model: str = ""
    desiderata: list[str] = field(default_factory=lambda: ["paper"])
    groups: list[str] = field(default_factory=list)
    sparsity: list[float] = field(default_factory=lambda: [0.01])
    draws: int = 1
    steps: int = 48
    batch_size: int = 32
    learning_rate: float = 0.1
    evaluate_every: int = 4
    patience: int = 4
    chunk_tokens: int = 8192


def run(experiment: Experiment, settings: Settings) -> DcmResult:
    """Train and test the masks of every group and desideratum; those of one group and desideratum go together."""
    check_settings(settings)
    rules = find_desiderata(settings.desiderata)
    base = experiment.base()
    model = experiment.family.load(settings.model, "method.model") if settings.model else base
    circuit = experiment.circuit(base)
    circuit.check(model.anatomy, experiment.task.roles)
    groups = [circuit.group(name, "method.groups") for name in settings.groups] or list(circuit.groups)
    prompts = box_prompts(experiment)
    splits = {rule.name: _draw(experiment, settings, rule, prompts) for rule in rules}
    units = [(group, rule) for group in groups for rule in rules]
    trained: list[Trained] = []
    for group, rule in experiment.track(units, f"dcm on {model.name}", len(units)):
        if group.heads:
            trained += train_group(experiment, settings, model, group, rule.name, splits[rule.name])
    found_on = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "task": dict(experiment.task.fingerprint),
        "sparsity": list(settings.sparsity),
        "draws": settings.draws,
        "seed": experiment.seed,
    }
    test = next(iter(splits.values())).test_clusters
    return DcmResult(model.name, tuple(groups), tuple(rule.name for rule in rules), tuple(trained), test, found_on)


def check_settings(settings: Settings) -> None:
    """Refuse numbers that nothing can be trained with.

    Raises:
        UserError: Naming the key.
    """
    for name in ("draws", "steps", "batch_size", "evaluate_every", "chunk_tokens"):
        if getattr(settings, name) < 1:
            raise UserError(f"method.{name}", f"{getattr(settings, name)} is too few", fix="use 1 or more")
    if not settings.sparsity:
        raise UserError("method.sparsity", "no weight is given", fix="such as [0.01]")


def _draw(experiment: Experiment, settings: Settings, rule: Desideratum, prompts: Sequence[Any]) -> Splits:
    """Train, validation and test pairs of a desideratum, drawn as often as asked."""
    compat = task_compat(experiment)
    drawn = [draw_pairs(rule, prompts, experiment.seed + draw, compat) for draw in range(settings.draws)]
    if any(a.clean.text != b.clean.text for draw in drawn[1:] for a, b in zip(drawn[0], draw, strict=True)):
        problem = f"desideratum {rule.name!r} gives other clean prompts in every draw"
        raise UserError("method.draws", problem, fix="use method.draws=1")
    return split(drawn)


def train_group(
    experiment: Experiment, settings: Settings, model: Model, group: Group, rule: str, splits: Splits
) -> list[Trained]:
    """All masks of one group and desideratum: a session to train them, and one for each batch of test prompts."""
    plan = [(draw, weight) for draw in range(settings.draws) for weight in settings.sparsity]
    compat = task_compat(experiment)
    batches = batch_inputs(experiment, splits.train, group, settings.batch_size)
    draws = [draw for draw, _ in plan]
    inputs: dict[str, Any] = {
        "heads": [list(head) for head in group.heads],
        "batches": batches,
        "validation": batch_inputs(experiment, splits.validation, group, settings.batch_size),
        "draws": draws,
        "sparsity": [weight for _, weight in plan],
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "evaluate_every": settings.evaluate_every,
        "patience": settings.patience,
        "borrow_positions": compat == "paper" and group.role == PREV_QUERY_LABEL,
    }
    found = experiment.runner.run(model, train_masks, inputs, {"chunk_tokens": settings.chunk_tokens})
    correct = test_masks(experiment, settings, model, group, splits, draws, found["kept"])
    trained = []
    for number, (draw, weight) in enumerate(plan):
        kept = tuple(head for head, own in zip(group.heads, found["kept"][number].tolist(), strict=True) if own < 0.5)
        curves = {name: found[name][:, number] for name in ("masks", "losses", "validated")}
        curves["validated_at"] = found["validated_at"]
        own = {"mask": correct[number], "whole group": correct[len(plan) + draw]}
        own["nothing"] = correct[len(plan) + settings.draws + draw]
        trained.append(Trained(group.name, rule, weight, draw, kept, len(group.heads), own, curves))
    return trained


def test_masks(
    experiment: Experiment,
    settings: Settings,
    model: Model,
    group: Group,
    splits: Splits,
    draws: list[int],
    kept: torch.Tensor,
) -> torch.Tensor:
    """Right or wrong `[mask, prompt]` on the test prompts: trained masks, then whole groups, then nothing patched."""
    whole = torch.zeros(settings.draws, len(group.heads))
    every_draw = list(range(settings.draws))
    heads = [list(head) for head in group.heads]
    masks = torch.cat([kept, whole, 1 - whole])
    numbers = [*draws, *every_draw, *every_draw]
    right = []
    for batch in batch_inputs(experiment, splits.test, group, experiment.batch_size):
        places = {name: batch.pop(name) for name in ("positions", "source_positions")}
        inputs = {"groups": [{"heads": heads, **places}], "batch": batch, "masks": [masks], "draws": numbers}
        found = experiment.runner.run(model, masked_answers, inputs, {"chunk_tokens": settings.chunk_tokens})
        right.append(found["prediction"][0] == batch["targets"][numbers])
    return torch.cat(right, 1)
