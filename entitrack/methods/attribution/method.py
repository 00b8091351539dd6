"""First-order scores of every stage of path patching, and how well they agree with the exact ones."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, numbers
from entitrack.core.ranks import overlap_of_top, rank_correlation
from entitrack.core.result import Result
from entitrack.engine.attribution import attribution_effects
from entitrack.methods.attribution.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.method import StageGroup, begin_search, find_groups, search_prompts
from entitrack.methods.path_patching.scoring import Search
from entitrack.methods.path_patching.stages import stage_batches

_KINDS = ("first order", "exact")


@dataclass(frozen=True)
class FirstOrder:
    """First-order scores of one stage.

    Attributes:
        effects: Effect of each head on each prompt.
        seconds: Seconds that they took, forward and backward passes together.
    """

    effects: Float[Tensor, "prompt layer head"]
    seconds: float


def run(experiment: Experiment, settings: Settings) -> Result:
    """Find the circuit exactly, and score every stage to first order through the same receivers.

    Returns:
        `score` `[kind, stage, layer, head]` and `effect` `[kind, stage, layer, head, prompt]`, where the kind is
        `first order` or `exact`; `rank_correlation` and `overlap` `[stage]`, not a number where no path leads from any
        head; `seconds` `[stage]` that the first-order scores took.
    """
    search = begin_search(experiment, settings.exact())
    exact = find_groups(search).by_name
    first_order = {name: score_to_first_order(search, group) for name, group in exact.items()}
    effects = [torch.stack([scores.effects for scores in first_order.values()])]
    effects.append(torch.stack([group.scores.effects for group in exact.values()]))
    scores = torch.stack([kind.mean(1) for kind in effects])
    axes, labels = ("kind", "stage", "layer", "head"), {"kind": _KINDS, "stage": tuple(exact)}
    both = {name: (scores[0, number], scores[1, number]) for number, name in enumerate(exact)}
    return Result(
        method="attribution",
        facts={"model": search.model.name, "top": settings.top},
        measurements={
            "score": Measurement(scores, axes, labels),
            "effect": Measurement(torch.stack(effects).movedim(2, -1), (*axes, PROMPT), labels, search_prompts(search)),
            "rank_correlation": numbers({name: agreement(*pair) for name, pair in both.items()}, "stage"),
            "overlap": numbers({name: overlap(*pair, settings.top) for name, pair in both.items()}, "stage"),
            "seconds": numbers({name: scores.seconds for name, scores in first_order.items()}, "stage"),
        },
    )


def score_to_first_order(search: Search, group: StageGroup) -> FirstOrder:
    """First-order effects of a stage, through the receivers that exact path patching found."""
    experiment, stage = search.experiment, group.stage
    batches = stage_batches(experiment, search.model, search.pairs, stage, group.receivers)
    begun = perf_counter()
    outputs = list(experiment.sessions(search.model, attribution_effects, batches, f"attribution: {stage.name}"))
    seconds = perf_counter() - begun
    return FirstOrder(torch.cat([output["effect"] for output in outputs]), seconds)


def agreement(approximate: Float[Tensor, "layer head"], exact: Float[Tensor, "layer head"]) -> float:
    """Rank correlation over heads that a path leads from; not a number where there are fewer than two."""
    reached = exact.flatten() != 0
    return rank_correlation(approximate.flatten()[reached], exact.flatten()[reached])


def overlap(approximate: Float[Tensor, "layer head"], exact: Float[Tensor, "layer head"], top: int) -> float:
    """Share of the exact `top` lowest scores that are among the first-order ones."""
    if not (exact != 0).any():
        return float("nan")
    return overlap_of_top(approximate.flatten(), exact.flatten(), top)
