"""Ask every model every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from entitrack.core.errors import UserError
from entitrack.core.measurement import Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.engine.patching import answer
from entitrack.methods.evaluate.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set
from entitrack.tasks.protocol import Resizable, Task


def run(experiment: Experiment, settings: Settings) -> Result:
    """Ask every model every prompt.

    Returns:
        `correct`, `prediction` and `probability` (of the answer) `[model, prompt]`.
    """
    names = experiment.members(settings.models, "method.models")
    prompts = [task.prompts() for task in _tasks(experiment.task, settings.boxes)]
    every = [prompt for of_one_task in prompts for prompt in of_one_task]
    batches = [batch for of_one_task in prompts for batch in experiment.encoded(of_one_task)]
    answers = torch.cat([batch.answers for batch in batches])
    inputs = [{"prompts": prompt_inputs(batch)} for batch in batches]
    predictions, probabilities = [], []
    for name in names:
        model = experiment.member(name, "method.models", every)
        outputs = list(experiment.sessions(model, answer, inputs, f"evaluate {model.name}"))
        predictions.append(torch.cat([output["prediction"] for output in outputs]))
        probabilities.append(torch.cat([output["probability"] for output in outputs]))
    prediction = torch.stack(predictions)
    measured = {"correct": prediction == answers, "prediction": prediction, "probability": torch.stack(probabilities)}
    prompt_sets = PromptSet.joined([prompt_set(of_one_task) for of_one_task in prompts])
    axes, labels = ("model", "prompt"), {"model": tuple(names)}
    return Result(
        method="evaluate",
        facts={"facets": {facet: asdict(words) for facet, words in experiment.task.facets.items()}},
        measurements={name: Measurement(values, axes, labels, prompt_sets) for name, values in measured.items()},
        words=experiment.words(prediction),
    )


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
