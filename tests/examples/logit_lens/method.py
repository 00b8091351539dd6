"""Asking the stream in front of every layer."""

from __future__ import annotations

import torch

from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.result import Result
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set

from .settings import Settings
from .trace import layer_answers


def run(experiment: Experiment, settings: Settings) -> Result:
    """Unembed the stream in front of every layer, in every model.

    Returns:
        `correct` and `prediction` `[model, layer, prompt]`.
    """
    names = experiment.members(settings.models, "method.models")
    prompts = experiment.task.prompts()
    batches = experiment.encoded(prompts)
    inputs = [{"prompts": prompt_inputs(batch)} for batch in batches]
    answered = []
    for name in names:
        model = experiment.member(name, "method.models")
        sessions = experiment.sessions(model, layer_answers, inputs, f"logit lens {name}")
        answered.append(torch.cat([session["prediction"] for session in sessions], 1))
    prediction = torch.stack(answered)
    correct = prediction == torch.cat([batch.answers for batch in batches])
    axes, on = ("model", "layer", PROMPT), prompt_set(prompts)
    labels, measured = {"model": tuple(names)}, {"correct": correct, "prediction": prediction}
    return Result(
        method="logit_lens",
        facts={},
        measurements={name: Measurement(values, axes, labels, on) for name, values in measured.items()},
        words=experiment.words(prediction),
    )
