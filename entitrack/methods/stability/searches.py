"""Searching a circuit again and again: the search of path patching, on each task and on halves of contexts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from random import Random
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.stages import Stage
from entitrack.methods.ability import NotAble
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.method import StageGroups, begin_search, find_groups
from entitrack.methods.path_patching.scoring import Search
from entitrack.methods.stability.settings import Settings
from entitrack.methods.stability.tasks import HALVES, PHRASINGS, SEEDS, tasks_of
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.protocol import Task


@dataclass(frozen=True)
class FoundGroups:
    """What one search found.

    Attributes:
        name: `seed 0`, `phrasing label_first`, `half 1`.
        task: What its prompts depend on.
        prompts: How many prompts were scored.
        contexts: Of how many contexts they are.
        digests: Digests of all contexts that were searched, as `found_on` keeps them.
        texts: A digest of them, without their counterfactuals.
        heads: Stage -> the heads chosen, most important first; none where the stage did not run.
        scores: Score of each head; not a number where the stage did not run, or the head was not scored.
        skipped: Stage -> why it did not run.
    """

    name: str
    task: Mapping[str, object]
    prompts: int
    contexts: int
    digests: tuple[str, ...] = field(repr=False)
    texts: str
    heads: Mapping[str, tuple[Head, ...]]
    scores: Float[Tensor, "stage layer head"] = field(repr=False)
    skipped: Mapping[str, str]

    def chosen(self, stages: Sequence[Stage]) -> Bool[Tensor, "stage layer head"]:
        """Whether each head was chosen."""
        chosen = torch.zeros(self.scores.shape, dtype=torch.bool)
        for number, stage in enumerate(stages):
            for layer, head in self.heads[stage.name]:
                chosen[number, layer, head] = True
        return chosen


@dataclass(frozen=True)
class Searches:
    """All searches of a run.

    Attributes:
        model: The model.
        stages: The stages that each goes through.
        found: What each found.
        over: What searches differ in -> names of those that do.
    """

    model: Model
    stages: Sequence[Stage]
    found: Sequence[FoundGroups]
    over: Mapping[str, Sequence[str]]

    def named(self, names: Iterable[str]) -> list[FoundGroups]:
        """What the searches of these names found."""
        by_name = {each.name: each for each in self.found}
        return [by_name[name] for name in names]


def search_again(experiment: Experiment, settings: Settings) -> Searches:
    """Search on every seed, in every phrasing and on halves of the first seed's contexts.

    Raises:
        UserError: Nothing is to be searched, or the task has no such seeds or phrasings; before any search.
    """
    tasks = tasks_of(experiment.task, settings)
    if not any(tasks.values()) and not settings.halves:
        raise UserError(
            "method.seeds", "there are none, nor phrasings, nor halves: nothing is searched", fix="name some"
        )
    by_name = {name: task for named in tasks.values() for name, task in named.items()}
    begun, found = list[Search](), list[FoundGroups]()
    for name, task in by_name.items():
        begun.append(_begun(experiment, settings, name, task))
        found.append(_find(begun[-1], name))
    # Without seeds, halves are of the task as it is, in which no whole search may have run.
    as_it_is = settings.halves and not tasks[SEEDS]
    whole = _begun(experiment, settings, HALVES, experiment.task) if as_it_is else begun[0]
    halves = [_find(half, name) for name, half in halves_of(whole, settings.halves).items()]
    names = {SEEDS: list(tasks[SEEDS]), HALVES: [half.name for half in halves], PHRASINGS: list(tasks[PHRASINGS])}
    over = {difference: those for difference, those in names.items() if those}
    return Searches(whole.model, whole.stages, [*found, *halves], over)


def halves_of(whole: Search, count: int) -> dict[str, Search]:
    """Searches on random halves of a search's contexts: each even one on what the one before it left.

    Raises:
        UserError: There are no two contexts.
    """
    contexts = sorted({pair.clean.cluster for pair in whole.pairs})
    if count and len(contexts) < 2:
        problem = f"the prompts that are scored are of {len(contexts)} context, which has no halves"
        raise UserError("method.halves", problem, fix="ask for more prompts, or say method.halves=0")
    random, rest, halves = Random(f"halves/{whole.experiment.seed}"), set[int](), {}
    for number in range(1, count + 1):
        half = rest or set(random.sample(contexts, len(contexts) // 2))
        rest = set() if rest else set(contexts) - half
        pairs = [pair for pair in whole.pairs if pair.clean.cluster in half]
        halves[f"half {number}"] = replace(whole, pairs=pairs, passes=[])
    return halves


def _begun(experiment: Experiment, settings: Settings, name: str, task: Task) -> Search:
    """A search on a task, whose progress is shown under its name.

    Raises:
        UserError: The model does not do that task.
    """

    def track(units: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        return experiment.track(units, f"{name}, {description}", total)

    try:
        return begin_search(replace(experiment, task=task, track=track), settings)
    except NotAble as error:
        raise UserError(f"search on {name}", str(error)) from error


def _find(search: Search, name: str) -> FoundGroups:
    """Go through the stages of one search; the passes that these share are let go of."""
    groups, clean = find_groups(search), [pair.clean for pair in search.pairs]
    search.passes.clear()
    return FoundGroups(
        name=name,
        task=dict(search.experiment.task.fingerprint),
        prompts=len(clean),
        contexts=len({prompt.cluster for prompt in clean}),
        digests=tuple(search.experiment.contexts()),
        texts=sha256("\n".join(prompt.text for prompt in clean).encode()).hexdigest(),
        heads={stage.name: groups.heads(stage.name) for stage in search.stages},
        scores=_scores(search, groups),
        skipped=dict(groups.skipped),
    )


def _scores(search: Search, groups: StageGroups) -> Float[Tensor, "stage layer head"]:
    anatomy = search.model.anatomy
    none = torch.full((anatomy["n_layers"], anatomy["n_heads"]), torch.nan)
    ran = groups.by_name
    return torch.stack([ran[stage.name].selection.scores if stage.name in ran else none for stage in search.stages])
