"""The sections of a configuration, read as their classes; and what of it a method would not look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entitrack.cli.general import GeneralSettings
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS
from entitrack.core.confidential import hidden_key
from entitrack.core.errors import UserError, shown
from entitrack.core.quirks import followed
from entitrack.core.settings import MethodSettings, Settings, read
from entitrack.methods import method_names, settings_of
from entitrack.models.settings import FamilySettings
from entitrack.record.settings import TrackingSettings
from entitrack.tasks.registry import find_task, make_task, with_defaults

if TYPE_CHECKING:
    from entitrack.tasks.protocol import Task

SECTIONS = ("model", "task", "method", "backend", "launcher", "tracking")
NAMED = ("task", "method", "backend", "launcher")
"""Sections whose `name` says what kind of thing they are about."""


@dataclass(frozen=True)
class Checked:
    """A whole configuration, of which every value is what its key takes; nothing is loaded or opened.

    Attributes:
        general: What is set outside of all sections.
        family: The models.
        task: Where prompts come from.
        method: Name of the method.
        settings: What the method is told.
        backend: Name of the backend.
        backend_settings: What the backend is told.
        launcher: Name of what a sweep's jobs are launched by.
        launcher_settings: What it is told.
        tracking: How W&B records.
        plain: What of it is recorded, without keys.
    """

    general: GeneralSettings
    family: FamilySettings
    task: Task
    method: str
    settings: MethodSettings
    backend: str
    backend_settings: Settings
    launcher: str
    launcher_settings: Settings
    tracking: TrackingSettings
    plain: dict[str, Any]


def read_sections(given: Mapping[str, Any]) -> Checked:
    """A configuration of plain values, every section read as its class.

    Raises:
        UserError: Naming the key that is wrong, and what would be right.
    """
    kinds = section_classes(given)
    task = make_task(_task_name(given), _without_name(given["task"]))
    given = {**given, "method": with_defaults(given["method"], task)}
    sections = {key: read_section(kinds[key], given[key], key) for key in SECTIONS if key != "task"}
    return Checked(
        general=read(GeneralSettings, {name: given[name] for name in GeneralSettings.model_fields}),
        family=sections["model"],
        task=task,
        method=given["method"]["name"],
        settings=sections["method"],
        backend=given["backend"]["name"],
        backend_settings=sections["backend"],
        launcher=given["launcher"]["name"],
        launcher_settings=sections["launcher"],
        tracking=sections["tracking"],
        plain={**given, "backend": hidden_key(given["backend"])},
    )


def section_classes(given: Mapping[str, Any]) -> dict[str, type]:
    """The class that each section is read as.

    Raises:
        UserError: A section names no task, method or backend that there is.
    """
    return {
        "model": FamilySettings,
        "task": find_task(_task_name(given), "task.name"),
        "method": settings_of(_kind(given, "method", dict.fromkeys(method_names()))),
        "backend": BACKENDS[_kind(given, "backend", BACKENDS)].settings,
        "launcher": LAUNCHERS[_kind(given, "launcher", LAUNCHERS)],
        "tracking": TrackingSettings,
    }


def read_section(kind: type[Settings], given: Any, key: str) -> Any:
    """One section as an object of its class; the name of a task, a method or a backend is no setting of it."""
    if isinstance(given, Mapping) and key in NAMED:
        given = _without_name(given)
    return read(kind, given)


def _without_name(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name != "name"}


def _task_name(given: Mapping[str, Any]) -> str:
    """The task's name: one that ships, or one's own as `module:Class`."""
    section = given["task"]
    own = section.get("name") if isinstance(section, Mapping) else None
    return own if isinstance(own, str) and ":" in own else _kind(given, "task", TASKS)


def check_use(general: GeneralSettings, family: FamilySettings, method: str) -> None:
    """Refuse a donor that is no member or that is missing, and a donor or a circuit that the method would not look at.

    The family's usual donor harms nobody.

    Raises:
        UserError: Naming the members, or the methods that use it.
    """
    settings = settings_of(method)
    if general.donor is not None:
        family.member(general.donor, "donor")
    elif settings.needs_donor:
        fix = "say donor=NAME, or name the family's usual one in model.donor"
        problem = f"method {method!r} needs one, and family {family.name!r} names none"
        raise UserError("donor", problem, family.members, fix)
    if not settings.needs_donor and general.donor not in (None, family.donor):
        raise _unused("donor", method, [name for name in method_names() if settings_of(name).needs_donor])
    if not settings.needs_circuit and general.circuit is not None:
        raise _unused("circuit", method, [name for name in method_names() if settings_of(name).needs_circuit])


def looks_at(method: str, name: str) -> bool:
    """Whether a method looks at what is set outside of sections; `donor`, `circuit` and `compat` not every one does."""
    settings = settings_of(method)
    needs = {"donor": settings.needs_donor, "circuit": settings.needs_circuit, "compat": bool(settings.quirks)}
    return needs.get(name, True)


def check_compat(checked: Checked) -> None:
    """Refuse to follow the published code where it does nothing else.

    Raises:
        UserError: Naming the methods of which it does.
    """
    if checked.general.compat == "paper" and not followed(checked.settings.quirks, checked.task.quirks):
        known = [name for name in method_names() if followed(settings_of(name).quirks, checked.task.quirks)]
        problem = f"published code and default do the same in method {checked.method!r} on task {checked.task.name!r}"
        raise UserError("compat", problem, fix=f"leave it out, or choose among {', '.join(known)}")


def _unused(key: str, method: str, users: Sequence[str]) -> UserError:
    return UserError(key, f"method {method!r} uses none", fix=f"leave it out, or choose among {', '.join(users)}")


def _kind(given: Mapping[str, Any], key: str, known: Mapping[str, Any]) -> str:
    """The name of a section's kind, if it is known."""
    section = given[key]
    if not isinstance(section, Mapping):
        raise UserError(key, f"there is no {key} {section!r}", known)
    name = section.get("name")
    if name not in known:
        raise UserError(f"{key}.name", f"unknown {key} {shown(name)}", known)
    return str(name)
