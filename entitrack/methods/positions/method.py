"""Grow the set of live places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.methods.ability import Ability, require_ability
from entitrack.methods.ablated_model import prepare
from entitrack.methods.experiment import Experiment, clusters, prompt_set, questions
from entitrack.methods.outcomes import Outcomes
from entitrack.methods.positions.growth import Growth, Step
from entitrack.methods.positions.live_places import answers_with
from entitrack.methods.positions.settings import Settings
from entitrack.models.family import Model
from entitrack.tasks.encoding import template_positions
from entitrack.tasks.protocol import Question


def run(experiment: Experiment, settings: Settings) -> Result:
    """Grow the set of live places.

    Returns:
        See `Outcomes`, `[live, prompt]`: with no place live, after each step, and with all of them, which is the
        model. `candidates` `[step, candidate]`: mean F with each candidate of a step, not a number for the others.
    """
    model = experiment.member(settings.model, "method.model")
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, (), settings, prompts, settings.ablation)
    places = template_positions(questions(prompts), experiment.family.tokenizer)
    intact = ablated.intact()
    require_ability(experiment, settings, _ability(model, questions(prompts), intact))
    nothing = answers_with(ablated, places, [()])[0]
    empty = nothing.logit_difference
    growth = Growth(ablated, places, settings.metric, empty)
    everything = intact.above(empty)
    nothing = nothing.above(empty)
    steps = growth.steps(nothing, everything, settings.most, settings.enough)
    outcomes = Outcomes.stacked([nothing, *(step.outcomes for step in steps), everything])
    live = ("none", *(f"+ {step.name}" for step in steps), "all")
    return Result(
        method="positions",
        facts={
            "model": model.name,
            "metric": settings.metric,
            "roles": [name for step in steps for name in step.places if name in experiment.roles],
            "steps": [{"name": step.name, "places": list(step.places), "tokens": step.tokens} for step in steps],
        },
        measurements={
            **outcomes.measurements(("live",), {"live": live}, prompt_set(prompts)),
            "candidates": candidate_means(steps),
        },
        words=experiment.words(outcomes.prediction),
    )


def _ability(model: Model, prompts: Sequence[Question], intact: Outcomes) -> Ability:
    """That of the model itself, which its own answers tell already."""
    chance = torch.tensor([1 / (1 + len(prompt.alternatives)) for prompt in prompts])
    return Ability(model.name, intact.correct, intact.logit_difference > 0, chance, clusters(prompts))


def candidate_means(steps: Sequence[Step]) -> Measurement:
    """Mean F with each candidate of each step; not a number where it was none."""
    names = tuple(dict.fromkeys(name for step in steps for name in step.candidates))
    means: Float[Tensor, "step candidate"] = torch.tensor(
        [[step.candidates.get(name, math.nan) for name in names] for step in steps], dtype=torch.float64
    )
    return Measurement(means, ("step", "candidate"), {"candidate": names})
