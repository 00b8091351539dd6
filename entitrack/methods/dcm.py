"""What does each group carry? Desiderata-based component masking (paper, section 5; Davies et al. 2023).

A mask over the heads of a group says which of them take their z, at the group's role, from the counterfactual. It is
trained so that the desideratum's target is answered with as many heads left alone as possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.circuits import Group
from entitrack.engine.dcm import train_masks
from entitrack.engine.masks import masked_answers
from entitrack.errors import UserError
from entitrack.limits import MethodSettings, limited, limits
from entitrack.methods.dcm_data import Splits, batch_inputs, split
from entitrack.methods.dcm_result import DcmResult, Trained
from entitrack.methods.experiment import Experiment
from entitrack.methods.pairs import box_prompts, draw_pairs, task_compat
from entitrack.models.family import Model
from entitrack.tasks.desiderata import Desideratum, find_desiderata
from entitrack.tasks.prompts import PREV_QUERY_LABEL

_HALF = 0.5


@dataclass
class Settings(MethodSettings):
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
        patience: Evaluations without a better accuracy after which a mask is done, counted from when it can have moved
            by half; 0: never.
        chunk_tokens: At most this many tokens go through the model at once.
    """

    model: str = ""
    desiderata: list[str] = field(default_factory=lambda: ["paper"])
    groups: list[str] = field(default_factory=list)
    sparsity: list[float] = field(default_factory=lambda: [0.01], metadata=limits(least=0))
    draws: int = limited(1, least=1)
    steps: int = limited(48, least=1)
    batch_size: int = limited(32, least=1)
    learning_rate: float = limited(0.1, above=0)
    evaluate_every: int = limited(4, least=1)
    patience: int = limited(4, least=0)
    chunk_tokens: int = limited(8192, least=1)


def run(experiment: Experiment, settings: Settings) -> DcmResult:
    """Train and test the masks of every group and desideratum; those of one group and desideratum go together."""
    if not settings.sparsity:
        raise UserError("method.sparsity", "no weight is given", fix="such as [0.01]")
    if len(set(settings.sparsity)) < len(settings.sparsity):
        raise UserError("method.sparsity", "a weight is there twice")
    rules = find_desiderata(settings.desiderata)
    base = experiment.base()
    model = experiment.family.load(settings.model, "method.model") if settings.model else base
    circuit = experiment.circuit(base)
    circuit.check(model.anatomy, experiment.task.roles)
    groups = circuit.choose(settings.groups, "method.groups")
    prompts = box_prompts(experiment)
    splits = {rule.name: _draw(experiment, settings, rule, prompts) for rule in rules}
    units = [(group, rule.name) for group in groups if group.heads for rule in rules]
    trained = train_and_test(experiment, settings, model, units, splits)
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


def _draw(experiment: Experiment, settings: Settings, rule: Desideratum, prompts: Sequence[Any]) -> Splits:
    """Train, validation and test pairs of a desideratum, drawn as often as asked."""
    compat = task_compat(experiment)
    drawn = [draw_pairs(rule, prompts, experiment.seed + draw, compat) for draw in range(settings.draws)]
    if any(a.clean.text != b.clean.text for draw in drawn[1:] for a, b in zip(drawn[0], draw, strict=True)):
        problem = f"desideratum {rule.name!r} gives other clean prompts in every draw"
        raise UserError("method.draws", problem, fix="use method.draws=1")
    return split(drawn)


def train_and_test(
    experiment: Experiment,
    settings: Settings,
    model: Model,
    units: Sequence[tuple[Group, str]],
    splits: Mapping[str, Splits],
) -> list[Trained]:
    """All masks: a session to train those of one group and desideratum, and one for each batch of test prompts."""
    plan = [(draw, weight) for draw in range(settings.draws) for weight in settings.sparsity]
    chunk = {"chunk_tokens": settings.chunk_tokens}
    asked = [train_inputs(experiment, settings, group, splits[rule], plan) for group, rule in units]
    found = list(experiment.sessions(model, train_masks, asked, f"dcm on {model.name}: training", settings=chunk))
    tests = [
        test_inputs(experiment, settings, group, splits[rule], plan, one["kept"])
        for (group, rule), one in zip(units, found, strict=True)
    ]
    flat = [inputs for batches in tests for inputs in batches]
    answers = experiment.sessions(model, masked_answers, flat, f"dcm on {model.name}: test", settings=chunk)
    trained = []
    for (group, rule), one, batches in zip(units, found, tests, strict=True):
        right = [next(answers)["prediction"][0] == inputs["batch"]["targets"][inputs["draws"]] for inputs in batches]
        trained += results(settings, group, rule, plan, one, torch.cat(right, 1))
    return trained


def train_inputs(
    experiment: Experiment, settings: Settings, group: Group, splits: Splits, plan: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    """What `train_masks` needs for one group and desideratum."""
    paper = task_compat(experiment) == "paper"
    return {
        "heads": [list(head) for head in group.heads],
        "batches": batch_inputs(experiment, splits.train, group, settings.batch_size),
        "validation": batch_inputs(experiment, splits.validation, group, settings.batch_size),
        "draws": [draw for draw, _ in plan],
        "sparsity": [weight for _, weight in plan],
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "evaluate_every": settings.evaluate_every,
        "patience": settings.patience,
        "borrow_positions": paper and group.role == PREV_QUERY_LABEL,
    }


def test_inputs(
    experiment: Experiment,
    settings: Settings,
    group: Group,
    splits: Splits,
    plan: Sequence[tuple[int, float]],
    kept: Float[Tensor, "mask head"],
) -> list[dict[str, Any]]:
    """What `masked_answers` needs for the test batches: the trained masks, then the whole group and nothing a draw."""
    whole = torch.zeros(settings.draws, len(group.heads))
    every_draw = list(range(settings.draws))
    masks = torch.cat([kept, whole, 1 - whole])
    asked = []
    for batch in batch_inputs(experiment, splits.test, group, experiment.batch_size):
        places = {name: batch.pop(name) for name in ("positions", "source_positions")}
        groups = [{"heads": [list(head) for head in group.heads], **places}]
        draws = [*(draw for draw, _ in plan), *every_draw, *every_draw]
        asked.append({"groups": groups, "batch": batch, "masks": [masks], "draws": draws})
    return asked


def results(
    settings: Settings,
    group: Group,
    rule: str,
    plan: Sequence[tuple[int, float]],
    found: Mapping[str, Tensor],
    correct: Bool[Tensor, "mask prompt"],
) -> list[Trained]:
    """The masks of one group and desideratum, each with its brackets."""
    trained = []
    for number, (draw, weight) in enumerate(plan):
        kept = found["kept"][number].tolist()
        heads = tuple(head for head, own in zip(group.heads, kept, strict=True) if own < _HALF)
        history = {name: found[name][:, number] for name in ("masks", "losses", "validated")}
        history["validated_at"] = found["validated_at"]
        right = {"mask": correct[number], "whole group": correct[len(plan) + draw]}
        right["nothing"] = correct[len(plan) + settings.draws + draw]
        validation = float(found["kept_accuracy"][number])
        trained.append(Trained(group.name, rule, weight, draw, heads, len(group.heads), right, validation, history))
    return trained
