"""Masks for every group and desideratum: drawn pairs, trained masks, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from entitrack.core.circuits import Group
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks
from entitrack.core.parts import CONTEXTS
from entitrack.core.quirks import Quirk
from entitrack.core.result import Result
from entitrack.methods.ability import ask_and_require
from entitrack.methods.dcm.measurements import measurements
from entitrack.methods.dcm.settings import Settings
from entitrack.methods.dcm.splits import Splits, split
from entitrack.methods.dcm.training import Trained, Unit, train_and_test
from entitrack.methods.desideratum_pairs import check_targets
from entitrack.methods.experiment import Experiment
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.desiderata import find_desiderata
from entitrack.tasks.protocol import Desideratum, Prompt


def run(experiment: Experiment, settings: Settings) -> Result:
    """Train and test the masks of every group and desideratum; those of one group and desideratum go together.

    Returns:
        By mask (`[group, desideratum, sparsity, draw]`, of groups with heads), `correct`, `prediction` and
        `target_logit` `[..., patched, prompt]` on the test prompts; `loss` and `validation` `[..., step]`; `mask`
        `[..., step, head]`; `patched_heads` `[..., head]` and `best_validation` `[...]`; and `target`
        `[desideratum, draw, prompt]`, as a token. What a mask does not have is not a number: heads of other groups, and
        steps after it was done. The artefact `masks` has the chosen ones.
    """
    rules = find_desiderata(experiment.task, settings.desiderata)
    base = experiment.base()
    model = experiment.member(settings.model, "method.model")
    circuit = experiment.circuit(base)
    circuit.check(model.anatomy, experiment.roles)
    groups = circuit.choose(settings.groups, "method.groups")
    prompts = experiment.task.prompts()
    splits = {rule.name: _draw(experiment, settings, rule, prompts) for rule in rules}
    ask_and_require(experiment, settings, model, prompts)
    with_heads = [group for group in groups if group.heads]
    units = [Unit(group, rule, splits[rule]) for group in with_heads for rule in splits]
    trained = train_and_test(experiment, settings, model, units)
    by_group = [trained[start : start + len(splits)] for start in range(0, len(trained), len(splits))]
    test_prompts = next(iter(splits.values())).test_prompts
    return Result(
        method="dcm",
        facts={
            "model": model.name,
            "groups": {group.name: [list(head) for head in group.heads] for group in groups},
            "desiderata": list(splits),
            "quirks": sorted(experiment.quirks),
            "chosen": [masks.unit.names | asdict(masks.best) for masks in trained],
        },
        measurements=measurements(settings.sparsity, by_group, test_prompts) if by_group else {},
        artefacts={"masks": Masks(_best_heads(groups, list(splits), trained), _found_on(experiment, settings, model))},
        words=experiment.words(*(tokens for masks in trained for tokens in (masks.prediction, masks.targets))),
    )


def _draw(experiment: Experiment, settings: Settings, rule: Desideratum, prompts: Sequence[Prompt]) -> Splits:
    """Train, validation and test pairs of a desideratum, drawn as often as asked."""
    drawn = [experiment.desideratum_pairs(rule, draw) for draw in range(settings.draws)]
    if any(a.clean.text != b.clean.text for draw in drawn[1:] for a, b in zip(drawn[0], draw, strict=True)):
        problem = f"desideratum {rule.name!r} gives other clean prompts in every draw"
        raise UserError("method.draws", problem, fix="use method.draws=1")
    check_targets(experiment, [pair for pairs in drawn for pair in pairs])
    return split(drawn, by_prompt=Quirk.SPLIT_BY_PROMPT in experiment.quirks)


def _best_heads(
    groups: Sequence[Group], rules: Sequence[str], trained: Sequence[Trained]
) -> dict[str, dict[str, tuple[Head, ...]]]:
    """Group -> desideratum -> the heads of its best mask; none of a group without heads."""
    best: dict[str, dict[str, tuple[Head, ...]]] = {group.name: dict.fromkeys(rules, ()) for group in groups}
    for masks in trained:
        best[masks.unit.group.name][masks.unit.desideratum] = masks.patched_heads(masks.best)
    return best


def _found_on(experiment: Experiment, settings: Settings, model: Model) -> dict[str, Any]:
    return {
        "model": model.name,
        "identity": model.identity.digest,
        "task": dict(experiment.task.fingerprint),
        CONTEXTS: experiment.contexts(),
        "quirks": sorted(experiment.quirks),
        "sparsity": list(settings.sparsity),
        "draws": settings.draws,
        "seed": experiment.seed,
    }
