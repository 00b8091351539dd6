"""A circuit by path patching: which prompts count, and stage after stage the group that its scores give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, PromptSet, numbers, stacked
from entitrack.core.parts import CONTEXTS
from entitrack.core.result import Result
from entitrack.core.stages import Stage
from entitrack.methods.ability import ask_and_require
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.path_patching.scoring import Search, StageScores, score_stage
from entitrack.methods.path_patching.selection import Selection, find_again, select
from entitrack.methods.path_patching.settings import Settings
from entitrack.methods.path_patching.stages import stages_of
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.protocol import Pair


@dataclass(frozen=True)
class StageGroup:
    """A stage's scores, and the group that they give.

    Attributes:
        stage: The stage.
        receivers: The heads it sends to; none for logits.
        scores: What was measured.
        selection: The heads chosen.
        found_again: How often halves of the contexts choose each, see `find_again`.
    """

    stage: Stage
    receivers: Sequence[Head]
    scores: StageScores
    selection: Selection
    found_again: Float[Tensor, "layer head"] = field(repr=False)


@dataclass(frozen=True)
class StageGroups:
    """What the stages found.

    Attributes:
        by_name: Stage -> its scores and group, of those that ran.
        skipped: Stage -> why it did not run.
    """

    by_name: dict[str, StageGroup]
    skipped: dict[str, str]

    def heads(self, stage: str) -> tuple[Head, ...]:
        """The heads of a stage's group; none where it did not run."""
        return self.by_name[stage].selection.heads if stage in self.by_name else ()


def run(experiment: Experiment, settings: Settings) -> Result:
    """Find a circuit, stage by stage.

    Returns:
        `score`, `standard_error`, `q_value` (see `Selection`) and `found_again` `[stage, layer, head]`; `effect`
        `[stage, layer, head, prompt]`; of a sender that is left alone, `null_effect` `[stage, prompt]` and its mean
        size, `noise` `[stage]`; `probability` `[prompt]`, of the right answer in the clean run, where it is not scored
        the naive way.
        The artefact `circuit`.
    """
    search = begin_search(experiment, settings)
    groups = find_groups(search)
    return Result(
        method="path_patching",
        facts={
            "model": search.model.name,
            "naive": not search.model.anatomy["factorised"],
            "stages": {name: _stage_facts(group) for name, group in groups.by_name.items()},
            "skipped": dict(groups.skipped),
        },
        measurements=measurements(groups, search_prompts(search)),
        artefacts={"circuit": _circuit(search, groups)},
    )


def begin_search(experiment: Experiment, settings: Settings) -> Search:
    """The model and the pairs that a circuit is searched with."""
    stages = stages_of(experiment, settings.stages)
    counterfactuals = (pair.counterfactual for pair in experiment.pairs())
    model = experiment.member(settings.model, "method.model", counterfactuals)
    return Search(experiment, settings, stages, model, usable_pairs(experiment, settings, model))


def search_prompts(search: Search) -> PromptSet:
    """The clean prompts of a search."""
    return prompt_set([pair.clean for pair in search.pairs])


def usable_pairs(experiment: Experiment, settings: Settings, model: Model) -> list[Pair]:
    """The task's pairs: all, or those whose clean prompt the model answers rightly.

    A prompt whose right answer has next to no probability to lose has effects without bound, which drown the others.

    Raises:
        UserError: The model does not do the task (see `ability`), or answers none rightly.
    """
    pairs = list(experiment.pairs())
    right = ask_and_require(experiment, settings, model, [pair.clean for pair in pairs]).correct
    if settings.prompts == "all":
        return pairs
    if not right.any():
        raise UserError("method.prompts", f"{model.name} answers no prompt rightly", fix="use method.prompts=all")
    return [pair for pair, is_right in zip(pairs, right.tolist(), strict=True) if is_right]


def find_groups(search: Search) -> StageGroups:
    """Go through the stages; one whose receivers are none is skipped."""
    groups = StageGroups({}, {})
    contexts = search_prompts(search).clusters
    for stage in search.stages:
        receivers = groups.heads(stage.receivers) if stage.receivers else ()
        if stage.receivers and not receivers:
            groups.skipped[stage.name] = f"its receivers, {stage.receivers}, are none"
            continue
        scores = score_stage(search, stage, receivers)
        told = (scores.effects, contexts, scores.noise, stage.size, search.settings.choose)
        groups.by_name[stage.name] = StageGroup(stage, receivers, scores, select(*told), find_again(*told))
    return groups


def measurements(groups: StageGroups, prompts: PromptSet) -> dict[str, Measurement]:
    """What the stages measured, by stage."""
    by_name, ran = groups.by_name, list(groups.by_name.values())
    axes, labels = ("stage", "layer", "head"), {"stage": tuple(by_name)}
    effects = torch.stack([group.scores.effects for group in ran]).movedim(1, -1)
    measured = {
        "score": Measurement(torch.stack([group.selection.scores for group in ran]), axes, labels),
        "standard_error": Measurement(torch.stack([group.selection.errors for group in ran]), axes, labels),
        "q_value": Measurement(torch.stack([group.selection.q_values for group in ran]), axes, labels),
        "found_again": Measurement(torch.stack([group.found_again for group in ran]), axes, labels),
        "effect": Measurement(effects, (*axes, PROMPT), labels, prompts),
        "null_effect": stacked({name: group.scores.null_effects for name, group in by_name.items()}, "stage", prompts),
        "noise": numbers({name: group.scores.noise for name, group in by_name.items()}, "stage"),
    }
    probability = ran[0].scores.probability
    if probability is not None:
        measured["probability"] = Measurement(probability, (PROMPT,), prompts=prompts)
    return measured


def _stage_facts(group: StageGroup) -> dict[str, Any]:
    """What a stage found beside its scores, as plain values."""
    verified, exact = group.scores.verified, group.scores.exact
    return {
        "role": group.stage.role,
        "heads": [list(head) for head in group.selection.heads],
        "peak_bytes": group.scores.peak_bytes,
        "rerun": None if exact is None else int(exact.sum()),
        "verified": asdict(verified) if verified else None,
    }


def _circuit(search: Search, groups: StageGroups) -> Circuit:
    """The groups of all stages, and what they were found on."""
    found_on = {
        "model": search.model.name,
        "family": search.experiment.family.name,
        "method": "path_patching",
        "identity": search.model.identity.digest,
        "task": dict(search.experiment.task.fingerprint),
        CONTEXTS: search.experiment.contexts(),
        "quirks": sorted(search.experiment.quirks),
        "settings": search.settings.model_copy(update={"stages": list(search.stages)}).model_dump(mode="json"),
    }
    found = tuple(Group(stage.name, stage.role, groups.heads(stage.name)) for stage in search.stages)
    return Circuit(found, found_on)
