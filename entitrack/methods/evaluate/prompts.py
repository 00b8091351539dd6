"""What is asked: the task's prompts, or those of several phrasings and numbers of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from entitrack.core.errors import UserError
from entitrack.core.measurement import PromptSet
from entitrack.methods.asking import asking_inputs
from entitrack.methods.evaluate.settings import PHRASING, Settings
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.varied_tasks import varied
from entitrack.tasks.protocol import Prompt, Resizable, Task


@dataclass(frozen=True)
class Questions:
    """What every model is asked.

    Attributes:
        prompts: The prompts.
        on: The same as they are kept with what is measured; those of several phrasings have the facet `PHRASING`.
        inputs: What sessions take, by batch.
    """

    prompts: Sequence[Prompt]
    on: PromptSet
    inputs: list[dict[str, Any]]


def questions_of(experiment: Experiment, settings: Settings) -> Questions:
    """All prompts, phrasing by phrasing.

    Raises:
        UserError: The task has no such phrasing or number of boxes, or the tokenizer does not read one.
    """
    prompts: list[Prompt] = []
    sets: list[PromptSet] = []
    inputs: list[dict[str, Any]] = []
    for number, tasks in enumerate(_tasks(experiment.task, settings)):
        for task in tasks:
            drawn = list(task.prompts())
            inputs += _inputs(experiment, drawn, f"method.phrasings.{number}" if settings.phrasings else "")
            sets.append(_with_phrasing(prompt_set(drawn), number) if settings.phrasings else prompt_set(drawn))
            prompts += drawn
    return Questions(prompts, PromptSet.joined(sets), inputs)


def _inputs(experiment: Experiment, prompts: Sequence[Prompt], place: str) -> list[dict[str, Any]]:
    """What sessions take; `place` is the key that named the phrasing, if one did."""
    try:
        return asking_inputs(experiment, prompts)
    except UserError as error:
        if not place:
            raise
        raise UserError(place, str(error)) from error


def _with_phrasing(prompts: PromptSet, number: int) -> PromptSet:
    return replace(prompts, facets={**prompts.facets, PHRASING: torch.full((len(prompts),), number)})


def _tasks(task: Task, settings: Settings) -> list[list[Task]]:
    """By phrasing, the task, or one for each number of boxes."""
    phrased = [varied(task, "phrasings", number, each) for number, each in enumerate(settings.phrasings)]
    return [_resized(each, settings.boxes) for each in phrased or [task]]


def _resized(task: Task, boxes: Sequence[int]) -> list[Task]:
    """The task, or one for each number of boxes."""
    if not boxes:
        return [task]
    if not isinstance(task, Resizable):
        raise UserError("method.boxes", f"task {task.name!r} has its own prompts", fix="leave it empty")
    for index, count in enumerate(boxes):
        if count in boxes[:index]:
            raise UserError(f"method.boxes.{index}", f"{count} is there twice")
    return [task.resized(count, f"method.boxes.{index}") for index, count in enumerate(boxes)]
