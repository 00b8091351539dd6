"""A task with another value of one of its settings, as methods that compare several are told."""

from __future__ import annotations

from entitrack.core.errors import UserError
from entitrack.tasks.protocol import Task


def varied(task: Task, key: str, number: int, value: int | str, otherwise: str = "") -> Task:
    """The task with one setting changed.

    Args:
        task: The task.
        key: The method's key that lists values: `phrasings` for the setting `phrasing`.
        number: Which of those listed this is.
        value: The value.
        otherwise: What else to say where the task has no such setting.

    Raises:
        UserError: It has no such setting, or the setting no such value.
    """
    setting, make = key.removesuffix("s"), getattr(task, "with_settings", None)
    fields = list(getattr(type(task), "model_fields", ()))
    if make is None or setting not in fields:
        problem = f"task {task.name!r} has no setting {setting!r}"
        fix = f"give it a field `{setting}` (see entitrack.tasks.TaskSettings){otherwise}"
        raise UserError(f"method.{key}", problem, fields, fix)
    try:
        made: Task = make(**{setting: value})
    except UserError as error:
        raise UserError(f"method.{key}.{number}", str(error)) from error
    return made
