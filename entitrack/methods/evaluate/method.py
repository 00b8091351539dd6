"""Ask every model every prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch

from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.methods.asking import Asked, ask
from entitrack.methods.evaluate.offered import NO_TOKEN, offered_logits
from entitrack.methods.evaluate.prompts import questions_of
from entitrack.methods.evaluate.settings import Settings
from entitrack.methods.experiment import Experiment, questions


def run(experiment: Experiment, settings: Settings) -> Result:
    """Ask every model every prompt.

    Returns:
        `correct`, `prediction` and `probability` (of the answer) `[model, prompt]`; where contexts offer several
        answers, `correct_among` `[model, prompt]` (see `asking`) and `chance_among` `[prompt]`, how often a choice at
        random is right among them; with `logits` also what `offered_logits` gives.
    """
    names = experiment.members(settings.models, "method.models")
    asked_about = questions_of(experiment, settings)
    if settings.logits:
        questions(asked_about.prompts)
    asked = {
        name: ask(
            experiment,
            experiment.member(name, "method.models", asked_about.prompts),
            asked_about.inputs,
            f"evaluate {name}",
        )
        for name in names
    }
    measurements = _measurements(asked, asked_about.on)
    tokens = [one.prediction for one in asked.values()]
    words = experiment.words(*tokens)
    if settings.logits:
        measurements |= offered_logits(asked, asked_about.on)
        offered = measurements["offered"].values
        words = {NO_TOKEN: "", **experiment.words(*tokens, offered[offered != NO_TOKEN])}
    facets = {facet: asdict(words) for facet, words in experiment.task.facets.items()}
    return Result(
        method="evaluate",
        facts={"facets": facets, "phrasings": settings.phrasings},
        measurements=measurements,
        words=words,
    )


def _measurements(asked: Mapping[str, Asked], on: PromptSet) -> dict[str, Measurement]:
    """What was answered, by model."""
    several = list(asked.values())
    measured = {
        "correct": [one.correct for one in several],
        "prediction": [one.prediction for one in several],
        "probability": [one.probability for one in several],
    }
    among = [one.correct_among for one in several if one.correct_among is not None]
    measured |= {"correct_among": among} if among else {}
    labels = {"model": tuple(asked)}
    found = {name: Measurement(torch.stack(rows), ("model", PROMPT), labels, on) for name, rows in measured.items()}
    chance = several[0].chance_among
    return found if chance is None else {**found, "chance_among": Measurement(chance, (PROMPT,), prompts=on)}
