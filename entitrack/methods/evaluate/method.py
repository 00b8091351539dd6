"""Ask every model every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from entitrack.core.errors import UserError
from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.engine.patching import answer, answer_logits
from entitrack.methods.evaluate.offered import NO_TOKEN, offered_logits
from entitrack.methods.evaluate.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set, question_inputs
from entitrack.tasks.protocol import Prompt, Resizable, Task


def run(experiment: Experiment, settings: Settings) -> Result:
    """Ask every model every prompt.

    Returns:
        `correct`, `prediction` and `probability` (of the answer) `[model, prompt]`; with `logits` also what
        `offered_logits` gives.
    """
    names = experiment.members(settings.models, "method.models")
    prompts = [task.prompts() for task in _tasks(experiment.task, settings.boxes)]
    on = PromptSet.joined([prompt_set(of_one_task) for of_one_task in prompts])
    inputs = [batch for of_one_task in prompts for batch in _inputs(experiment, of_one_task, settings.logits)]
    answers = torch.cat([batch["prompts"]["answers"] for batch in inputs])
    answered = _answered(experiment, names, [prompt for part in prompts for prompt in part], inputs, settings.logits)
    prediction, probability = (
        torch.stack([torch.cat([batch[name] for batch in batches]) for batches in answered.values()])
        for name in ("prediction", "probability")
    )
    measured = {"correct": prediction == answers, "prediction": prediction, "probability": probability}
    axes, labels = ("model", "prompt"), {"model": tuple(names)}
    measurements = {name: Measurement(values, axes, labels, on) for name, values in measured.items()}
    words = experiment.words(prediction)
    if settings.logits:
        measurements |= offered_logits(answered, inputs, on)
        tokens = measurements["offered"].values
        words = {NO_TOKEN: "", **experiment.words(prediction, tokens[tokens != NO_TOKEN])}
    return Result(
        method="evaluate",
        facts={"facets": {facet: asdict(words) for facet, words in experiment.task.facets.items()}},
        measurements=measurements,
        words=words,
    )


def _inputs(experiment: Experiment, prompts: Sequence[Prompt], logits: bool) -> list[dict[str, Any]]:
    """What sessions on the prompts of one task take, by batch."""
    batches = experiment.encoded(prompts)
    if not logits:
        return [{"prompts": prompt_inputs(batch)} for batch in batches]
    parts = experiment.by_batch(prompts)
    return [{"prompts": question_inputs(experiment, *both)} for both in zip(parts, batches, strict=True)]


def _answered(
    experiment: Experiment, names: Sequence[str], prompts: Sequence[Prompt], inputs: list[dict[str, Any]], logits: bool
) -> dict[str, list[dict[str, Any]]]:
    """Model -> what it answers, by batch."""
    answered = {}
    for name in names:
        model = experiment.member(name, "method.models", prompts)
        function = answer_logits if logits else answer
        answered[name] = list(experiment.sessions(model, function, inputs, f"evaluate {model.name}"))
    return answered


def _tasks(task: Task, boxes: Sequence[int]) -> list[Task]:
    """The task, or one for each number of boxes."""
    if not boxes:
        return [task]
    if not isinstance(task, Resizable):
        raise UserError("method.boxes", f"task {task.name!r} has its own prompts", fix="leave it empty")
    for index, count in enumerate(boxes):
        if count in boxes[:index]:
            raise UserError(f"method.boxes.{index}", f"{count} is there twice")
    return [task.resized(count, f"method.boxes.{index}") for index, count in enumerate(boxes)]
