"""What there is to choose from: tasks, methods and backends, and what Hydra composes where one is named.

A method's, a backend's and the tracking's defaults are their settings classes'; `conf/` holds what says more than they
do. Nothing here imports torch: what is chosen is imported when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from hydra.core.config_store import ConfigStore

from entitrack.cli.general import GeneralSettings
from entitrack.core.settings import Settings, defaults
from entitrack.launch import settings as launchers
from entitrack.methods import method_names, settings_of
from entitrack.record.settings import TrackingSettings
from entitrack.runtime.ndif.settings import Settings as NdifSettings
from entitrack.runtime.settings import DryRunSettings, LocalSettings
from entitrack.tasks.registry import SHIPPED, find_task, task_defaults

if TYPE_CHECKING:
    from entitrack.runtime.backends import Backend

TASKS: dict[str, type] = {name: find_task(name) for name in SHIPPED}
"""The tasks that ship; one's own is offered where a command line names it."""


@dataclass(frozen=True)
class BackendKind:
    """A backend: how it is made, what may be set, and whether weights are loaded here."""

    make: Callable[[Any], Backend]
    settings: type[Settings]
    weights: bool = True


def _local(settings: LocalSettings) -> Backend:
    from entitrack.runtime.backends import Local
    from entitrack.runtime.forms import chosen

    return Local(form=chosen(settings.form))


def _dry_run(settings: DryRunSettings) -> Backend:
    from entitrack.runtime.backends import dry_run
    from entitrack.runtime.forms import chosen

    return dry_run(chosen(settings.form))


def _ndif(settings: NdifSettings) -> Backend:
    from entitrack.runtime.ndif.backend import Ndif

    return Ndif(settings)


BACKENDS: dict[str, BackendKind] = {
    "local": BackendKind(_local, LocalSettings),
    "dry_run": BackendKind(_dry_run, DryRunSettings),
    "ndif": BackendKind(_ndif, NdifSettings, weights=False),
}


LAUNCHERS: dict[str, type[Settings]] = {
    "local": launchers.LocalSettings,
    "joblib": launchers.JoblibSettings,
    "submitit": launchers.SubmititSettings,
    "ray": launchers.RaySettings,
}


def tracking_modes() -> tuple[str, ...]:
    """Names of the ways to record in W&B."""
    return get_args(TrackingSettings.model_fields["mode"].annotation)


def offer() -> None:
    """Tell Hydra what `GROUP=NAME` composes, and what stands outside of all groups."""
    _store("general", defaults(GeneralSettings))
    for name in method_names():
        _store(name, {"name": name, **defaults(settings_of(name))}, "method")
    for name in TASKS:
        offer_task(name)
    for name, kind in BACKENDS.items():
        _store(name, {"name": name, **defaults(kind.settings)}, "backend")
    for name, settings in LAUNCHERS.items():
        _store(name, {"name": name, **defaults(settings)}, "launcher")
    for mode in tracking_modes():
        _store(mode, {**defaults(TrackingSettings), "mode": mode}, "tracking")


def offer_task(name: str) -> None:
    """Tell Hydra what `task=NAME` composes: the defaults of the task's settings.

    Raises:
        UserError: It is one's own, as `module:Class`, and cannot be imported.
    """
    _store(name, task_defaults(name), "task")


def _store(name: str, node: Mapping[str, Any], group: str | None = None) -> None:
    ConfigStore.instance().store(name=name, node=dict(node), group=group, provider="entitrack")


offer()
