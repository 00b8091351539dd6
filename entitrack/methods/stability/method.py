"""How often each head is chosen, how far searches agree, and what of a circuit is found again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.circuits import Circuit, Group, read_circuit, shipped_circuits
from entitrack.core.measurement import Measurement
from entitrack.core.parts import CONTEXTS
from entitrack.core.ranks import rank_correlation
from entitrack.core.result import Result
from entitrack.core.stages import Stage
from entitrack.core.statistics.overlaps import agreement
from entitrack.methods.experiment import Experiment
from entitrack.methods.stability.searches import FoundGroups, Searches, search_again
from entitrack.methods.stability.settings import Settings
from entitrack.models.anatomy import Head
from entitrack.models.family import Model

_NOT_OF_PROMPTS = ("count", "compat")
"""Keys of a fingerprint that do not tell other prompts: how many of one draw are taken, and in what earlier circuits
say how they were used."""


def run(experiment: Experiment, settings: Settings) -> Result:
    """Search the circuit again and again.

    Returns:
        `chosen` and `score` `[search, stage, layer, head]`; `inclusion` `[over, stage, layer, head]`, the share of the
        searches over seeds, halves or phrasings that choose a head; `jaccard`, the mean overlap of two such searches,
        `jaccard_by_chance`, `p_value` and `rank_correlation` `[over, stage]`, not a number where there are no two.
        The artefact `circuit`.
    """
    searches = search_again(experiment, settings)
    reference = reference_circuit(experiment, searches.model)
    circuit = stable_circuit(experiment, settings, searches)
    return Result(
        method="stability",
        facts={
            "model": searches.model.name,
            "stages": {stage.name: {"role": stage.role, "size": stage.size} for stage in searches.stages},
            "searches": [_search_facts(found) for found in searches.found],
            "over": searches.over,
            "least": settings.least,
            "circuit": _circuit_facts(experiment, reference, searches) if reference else None,
            "written": {group.name: group.heads for group in circuit.groups},
        },
        measurements=_measurements(searches, experiment.seed),
        artefacts={"circuit": circuit},
    )


def reference_circuit(experiment: Experiment, model: Model) -> Circuit | None:
    """The circuit whose heads may be found again: the one that is named, or the base's own if it is about this task."""
    family = experiment.family
    if experiment.circuit_name is None:
        if family.base not in shipped_circuits(family.name):
            return None
        if not {group.role for group in read_circuit(family.base, family.name).groups} <= set(experiment.roles):
            return None
    return experiment.circuit(model)


def stable_circuit(experiment: Experiment, settings: Settings, searches: Searches) -> Circuit:
    """The heads that enough of the deciding searches choose: those over seeds, where there are any.

    The most important come first, by their mean score in these searches.
    """
    decides, names = next(iter(searches.over.items()))
    found = searches.named(names)
    scores = torch.stack([each.scores for each in found]).nanmean(0)
    groups = []
    for number, stage in enumerate(searches.stages):
        counts = _counts([each.heads[stage.name] for each in found])
        # A share of .6 of 5 is 3 of them, whatever .6 * 5 is in binary.
        enough = [head for head, count in counts.items() if count / len(found) >= settings.least - 1e-9]
        by_score = sorted(enough, key=lambda head: float(scores[number][head]))
        groups.append(Group(stage.name, stage.role, tuple(by_score)))
    found_on = {
        "model": searches.model.name,
        "family": experiment.family.name,
        "method": "stability",
        "identity": searches.model.identity.digest,
        "task": dict(found[0].task),
        CONTEXTS: list(dict.fromkeys(digest for each in found for digest in each.digests)),
        "over": decides,
        "searches": {each.name: dict(each.task) for each in found},
        "least": settings.least,
        "quirks": sorted(experiment.quirks),
        "settings": settings.model_copy(update={"stages": list(searches.stages)}).model_dump(mode="json"),
    }
    return Circuit(tuple(groups), found_on)


def mean_rank_correlation(scores: Sequence[Float[Tensor, "layer head"]]) -> float:
    """Mean rank correlation of two searches' scores over the heads that a path leads from in both."""
    correlations = []
    for one, other in combinations(scores, 2):
        scored = ~(one.isnan() | other.isnan()) & (one != 0) & (other != 0)
        correlations.append(rank_correlation(one[scored], other[scored]))
    known = [each for each in correlations if not math.isnan(each)]
    return fmean(known) if known else math.nan


def _counts(groups: Sequence[Sequence[Head]]) -> dict[Head, int]:
    counts: dict[Head, int] = {}
    for heads in groups:
        for head in heads:
            counts[head] = counts.get(head, 0) + 1
    return counts


def _search_facts(found: FoundGroups) -> dict[str, Any]:
    """What one search found, as plain values."""
    return {
        "name": found.name,
        "task": dict(found.task),
        "prompts": found.prompts,
        "contexts": found.contexts,
        "texts": found.texts,
        "heads": {stage: [list(head) for head in heads] for stage, heads in found.heads.items()},
        "skipped": dict(found.skipped),
    }


def _circuit_facts(experiment: Experiment, circuit: Circuit, searches: Searches) -> dict[str, Any]:
    """The circuit that searches are held against, and which of them are on the prompts that it was found on."""
    on = origins(circuit.found_on)
    same = [found.name for found in searches.found if any(same_prompts(task, found.task) for task in on)]
    groups = [
        {
            "name": group.name,
            "role": group.role,
            "heads": group.heads,
            "why_not": why_not(group, circuit, searches.stages),
        }
        for group in circuit.groups
    ]
    return {"name": experiment.circuit_name or experiment.family.base, "groups": groups, "same_prompts": same}


def why_not(group: Group, circuit: Circuit, stages: Sequence[Stage]) -> str | None:
    """Why no stage looks for a group as it was found; None if one does, or it is not said how it was found."""
    stage = next((stage for stage in stages if (stage.name, stage.role) == (group.name, group.role)), None)
    if stage is None:
        return "is no stage of these searches"
    settings = circuit.found_on.get("settings")
    known = settings.get("stages") if isinstance(settings, Mapping) else None
    for entry in known if isinstance(known, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") == group.name:
            component, receivers = entry.get("component"), entry.get("receivers") or None  # "" in earlier circuits
            if (component, receivers) != (stage.component, stage.receivers):
                here = f"{stage.component} of {stage.receivers}" if stage.receivers else stage.component
                return f"was found through {component} of {receivers}, and is looked for through {here}"
    return None


def origins(found_on: Mapping[str, Any]) -> list[Mapping[str, object]]:
    """The fingerprints of all prompts that a circuit says it was found on."""
    searches = found_on.get("searches")
    tasks = [found_on.get("task"), *(searches.values() if isinstance(searches, Mapping) else ())]
    return [task for task in tasks if isinstance(task, Mapping)]


def same_prompts(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether prompts of two fingerprints are drawn alike, however many of them are taken."""
    both = [{key: value for key, value in each.items() if key not in _NOT_OF_PROMPTS} for each in (one, other)]
    return both[0] == both[1]


def _measurements(searches: Searches, seed: int) -> dict[str, Measurement]:
    stages = tuple(stage.name for stage in searches.stages)
    names = tuple(found.name for found in searches.found)
    chosen = torch.stack([found.chosen(searches.stages) for found in searches.found])
    scores = torch.stack([found.scores for found in searches.found])
    rows = {over: [names.index(name) for name in those] for over, those in searches.over.items()}
    agreements = [
        [agreement(chosen[those, stage].flatten(1).numpy(), seed) for stage in range(len(stages))]
        for those in rows.values()
    ]
    correlations = [
        [mean_rank_correlation([*scores[those, stage]]) for stage in range(len(stages))] for those in rows.values()
    ]
    of_heads = ("stage", "layer", "head")
    by_over = {"over": tuple(rows), "stage": stages}
    by_search = {"search": names, "stage": stages}
    measured = {
        "jaccard": [[each.jaccard for each in row] for row in agreements],
        "jaccard_by_chance": [[each.by_chance for each in row] for row in agreements],
        "p_value": [[each.p_value for each in row] for row in agreements],
        "rank_correlation": correlations,
    }
    inclusion = torch.stack([chosen[those].double().mean(0) for those in rows.values()])
    return {
        "inclusion": Measurement(inclusion, ("over", *of_heads), by_over),
        "chosen": Measurement(chosen, ("search", *of_heads), by_search),
        "score": Measurement(scores, ("search", *of_heads), by_search),
        **{
            name: Measurement(torch.tensor(values, dtype=torch.float64), ("over", "stage"), by_over)
            for name, values in measured.items()
        },
    }
