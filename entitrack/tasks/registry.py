"""Tasks by name: those that ship, and one's own as `module:Class`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entitrack.core.errors import UserError, quoted, reason
from entitrack.core.settings import Settings, defaults
from entitrack.tasks.checking import check_prompt
from entitrack.tasks.importing import import_named
from entitrack.tasks.protocol import Task

SHIPPED = {
    "boxes": "entitrack.tasks.boxes:Boxes",
    "boxes_file": "entitrack.tasks.boxes:BoxesFile",
    "bindings": "entitrack.tasks.bindings:Bindings",
    "ioi": "entitrack.tasks.ioi:IOI",
    "mcqa": "entitrack.tasks.mcqa:MCQA",
    "operations": "entitrack.tasks.operations:Operations",
    "table": "entitrack.tasks.table:Table",
}
_PARTS = (
    "name",
    "roles",
    "stages",
    "edges",
    "facets",
    "desiderata",
    "desideratum_sets",
    "quirks",
    "fingerprint",
    "prompts",
)
"""What a task has besides `pairs` and `backgrounds`; see `entitrack.tasks.protocol.Task`."""
_NOT_GIVEN = "???"


def find_task(name: str, place: str = "task") -> type:
    """The class of a task.

    Raises:
        UserError: There is no such task, or it cannot be imported.
    """
    if name not in SHIPPED and ":" not in name:
        fix = "or one's own as module:Class"
        raise UserError(place, f"unknown task {quoted(name)}", SHIPPED, fix)
    found = import_named(SHIPPED.get(name, name), place)
    if not isinstance(found, type):
        raise UserError(place, f"{name} is no task: it is {quoted(found)}, not a class")
    return found


def task_defaults(name: str) -> dict[str, Any]:
    """What Hydra composes for a task: its name, and the defaults of its settings where the class declares them.

    Raises:
        UserError: See `find_task`.
    """
    found = find_task(name)
    return {"name": name, **(defaults(found) if issubclass(found, Settings) else {})}


def make_task(name: str, settings: Mapping[str, Any]) -> Task:
    """A task with its settings.

    Raises:
        UserError: See `find_task`; a setting is wrong; or the class is no task: what is missing is named.
    """
    made = find_task(name, "task.name")
    given = {key: value for key, value in settings.items() if value != _NOT_GIVEN}
    try:
        task: Any = made(**given)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError("task", f"{name} cannot be made with {quoted(given)} ({reason(error)})") from error
    if name not in SHIPPED:
        _check(name, task)
    return task


def with_defaults(settings: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """A method's settings; changes of single entries (`method.stages.0.size=8`) are made to the task's own list.

    Raises:
        UserError: The task has no such entry.
    """
    completed = dict(settings)
    for key in ("stages", "edges"):
        changes = completed.get(key)
        if not isinstance(changes, Mapping):
            continue
        entries = [entry.model_dump(mode="json") for entry in getattr(task, key)]
        for number, change in changes.items():
            place = f"method.{key}.{number}"
            if str(number) not in map(str, range(len(entries))):
                raise UserError(place, f"task {task.name!r} has no such entry", range(len(entries)))
            if not isinstance(change, Mapping):
                raise UserError(place, f"{quoted(change)} is not a section")
            entries[int(number)] |= change
        completed[key] = entries
    return completed


def _check(name: str, task: Any) -> None:
    """Refuse an object that lacks what a task has, or whose prompts are none."""
    parts = (*_PARTS, "pairs", "backgrounds")
    missing = [part for part in parts if not hasattr(type(task), part) and part not in vars(task)]
    if missing:
        fix = "derive it from entitrack.tasks.TaskSettings"
        raise UserError("task", f"{name} is no task: it has no {', '.join(missing)}", fix=fix)
    try:
        prompts: Any = task.prompts()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError("task", f"{name} gives no prompts ({reason(error)})") from error
    if not isinstance(prompts, Sequence) or not prompts:
        raise UserError("task", f"{name} gives {quoted(prompts)}, not a list of prompts")
    for number, prompt in enumerate(prompts):
        try:
            check_prompt("clean", prompt)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError("task", f"prompt {number} of {name} is no prompt ({reason(error)})") from error
