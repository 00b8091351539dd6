"""The schema that `conf/` is checked against, and what each section becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from entitrack.cli.hydra_errors import omegaconf_error
from entitrack.cli.limits import Checked, limited
from entitrack.cli.schema import read, unknown_key
from entitrack.core.confidential import hidden_key
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.settings import defaults
from entitrack.methods import method_names, run_method, settings_of
from entitrack.methods.experiment import Experiment
from entitrack.models.anatomy import given_architecture
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Backend, Local, dry_run
from entitrack.runtime.ndif import Ndif
from entitrack.runtime.ndif import Settings as NdifSettings
from entitrack.tasks.protocol import Task
from entitrack.tasks.registry import SHIPPED, find_task, make_task, task_defaults, with_defaults

CONF = next(
    folder for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf") if folder.is_dir()
)
"""The configuration: inside an installed package, or beside it in a checkout."""

TASKS: dict[str, type] = {name: find_task(name) for name in SHIPPED}
PADDINGS = ("right", "left")


@dataclass(frozen=True)
class Method:
    """A method: how it is run, what may be set, and whether it needs a donor."""

    run: Callable[[Experiment, Any], Result]
    settings: type
    donor: bool = False


METHODS: dict[str, Method] = {
    name: Method(partial(run_method, name), settings_of(name), donor=name == "cmap") for name in method_names()
}


def offer_methods() -> None:
    """Tell Hydra what `method=NAME` composes: the defaults of the method's settings."""
    for name in method_names():
        node = {"name": name, **defaults(settings_of(name))}
        ConfigStore.instance().store(name=name, node=node, group="method", provider="entitrack")


def offer_task(name: str) -> None:
    """Tell Hydra what `task=NAME` composes: the defaults of the task's settings.

    Raises:
        UserError: It is one's own, as `module:Class`, and cannot be imported.
    """
    ConfigStore.instance().store(name=name, node=task_defaults(name), group="task", provider="entitrack")


offer_methods()
for task_name in TASKS:
    offer_task(task_name)


@dataclass
class NoSettings:
    """Of a section in which nothing may be set but its name."""


@dataclass(frozen=True)
class BackendKind:
    """A backend: how it is made, what may be set, and whether weights are loaded here."""

    make: Callable[[Any], Backend]
    settings: type = NoSettings
    weights: bool = True


BACKENDS: dict[str, BackendKind] = {
    "local": BackendKind(lambda settings: Local()),
    "dry_run": BackendKind(lambda settings: dry_run()),
    "ndif": BackendKind(Ndif, NdifSettings, weights=False),
}


@dataclass
class CheckpointConfig:
    """See `entitrack.models.family.Checkpoint`."""

    path: str = "???"
    adapter: str | None = None
    revision: str | None = None
    hosted: str | None = None


@dataclass
class ModelConfig:
    """See `entitrack.models.family.Family`."""

    name: str = "???"
    base: str = "???"
    donor: str | None = None
    members: dict[str, CheckpointConfig] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "auto"
    attention: str = "sdpa"
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrackingConfig(Checked):
    """How W&B records.

    Attributes:
        mode: `offline`, `online` or `disabled`.
        project: Name of the project.
        timeout_s: Seconds that W&B may take; the result is on the disk before.
    """

    place: ClassVar[str] = "tracking"
    mode: str = "offline"
    project: str = "entitrack"
    timeout_s: float = limited(120.0, above=0, most=86400)


@dataclass
class TopConfig(Checked):
    """What is set outside of all sections.

    Attributes:
        donor: Member of the family that activations come from; null: no method that needs one can run.
        circuit: A circuit's file or name; null takes the base's own.
        batch_size: Prompts in a session.
        padding: Side on which shorter prompts are padded.
        seed: Of everything drawn outside the task.
        output_dir: Where runs are recorded.
        store: Where finished sessions are kept; null keeps nothing.
    """

    donor: str | None = None
    circuit: str | None = None
    batch_size: int = limited(84, least=1, most=65536)
    padding: str = "right"
    seed: int = limited(0, least=0, below=2**63)
    output_dir: str = "outputs"
    store: str | None = None


SECTIONS = ("model", "task", "method", "backend", "tracking")
_EMPTY = {
    "donor": "name a member of the family",
    "circuit": "circuit=null takes the base's own",
    "output_dir": "name a folder",
    "store": "store=null keeps nothing",
}
"""Texts that may not be empty, and what to write instead."""


@dataclass(frozen=True)
class RunConfig:
    """A whole configuration, checked; `plain` is what of it is recorded, without keys."""

    family: Family
    donor: str | None
    task: Task
    method: str
    settings: Any
    backend: Backend
    tracking: TrackingConfig
    circuit: str | None
    batch_size: int
    padding: str
    seed: int
    store: str | None
    plain: dict[str, Any]


def check(config: DictConfig) -> RunConfig:
    """A composed configuration, with every section checked against its schema.

    Raises:
        UserError: Naming the key that is wrong, and what would be right.
    """
    given = resolved(config)
    task_name = _task_name(given)
    method, backend = (_kind(given, *of) for of in (("method", METHODS), ("backend", BACKENDS)))
    top = _top_level(given)
    family = _family(given, BACKENDS[backend].weights)
    if top.donor is not None:
        family.checkpoint(top.donor, "donor")
    elif METHODS[method].donor:
        fix = "say donor=NAME, or name the family's usual one in model.donor"
        raise UserError(
            "donor", f"method {method!r} needs one, and family {family.name!r} names none", family.members, fix
        )
    task = make_task(task_name, _settings(given, "task"))
    return RunConfig(
        family=family,
        donor=top.donor,
        task=task,
        method=method,
        settings=read(with_defaults(_settings(given, "method"), task), METHODS[method].settings, "method"),
        backend=BACKENDS[backend].make(read(_settings(given, "backend"), BACKENDS[backend].settings, "backend")),
        tracking=read(given["tracking"], TrackingConfig, "tracking"),
        circuit=top.circuit,
        batch_size=top.batch_size,
        padding=top.padding,
        seed=top.seed,
        store=top.store,
        plain={**given, "backend": hidden_key(given["backend"])},
    )


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, every section there.

    A family that names no usual donor has none.

    Raises:
        UserError: A section or key is missing or unknown, or a value points to one that does not exist.
    """
    known = [*SECTIONS, *(entry.name for entry in fields(TopConfig))]
    for key in config:
        if key == "experiment":
            raise UserError(
                key, "its keys are in a section of their own", fix="begin its file with '# @package _global_'"
            )
        if key not in known:
            raise unknown_key("", key, known)
    for key in known:
        if key not in config or (key in SECTIONS and config._get_node(key)._is_none()):  # type: ignore[union-attr]
            raise UserError(key, "has no value", _options(key), "" if _options(key) else "set it")
    model = config._get_node("model")
    if isinstance(model, DictConfig) and "donor" not in model:
        with open_dict(model):
            model.donor = None
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise omegaconf_error(error) from error
    return plain


def section(config: DictConfig, key: str, schema: type, named: bool = False) -> Any:
    """One section of a composed configuration as an object of its schema.

    Args:
        config: The composed configuration.
        key: Its key.
        schema: A dataclass.
        named: The section has a `name` besides the schema's fields.

    Raises:
        UserError: A key is unknown or missing, or a value is not what its key takes.
    """
    given = resolved(config)
    return read(_settings(given, key) if named else given[key], schema, key)


def _options(group: str) -> list[str]:
    """Names of the configurations that a group ships."""
    offered = {"method": list(METHODS), "task": list(TASKS)}
    return sorted(offered.get(group) or [file.stem for file in (CONF / group).glob("*.yaml")])


def _kind(given: Mapping[str, Any], key: str, known: Mapping[str, Any]) -> str:
    """The name of a section's kind, if it is known."""
    section = given[key]
    if not isinstance(section, Mapping):
        raise UserError(key, f"there is no {key} {section!r}", known)
    name = section.get("name")
    if name not in known:
        raise UserError(f"{key}.name", f"unknown {key} {name!r}", known)
    return str(name)


def _task_name(given: Mapping[str, Any]) -> str:
    """The task's name: one that ships, or one's own as `module:Class`."""
    section = given["task"]
    own = section.get("name") if isinstance(section, Mapping) else None
    return own if isinstance(own, str) and ":" in own else _kind(given, "task", TASKS)


def _settings(given: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A section without the name of its kind."""
    return {name: value for name, value in given[key].items() if name != "name"}


def _family(given: Mapping[str, Any], weights: bool) -> Family:
    """The family of models, nothing of it loaded."""
    model = read(given["model"], ModelConfig, "model")
    members = {name: Checkpoint(**dataclasses.asdict(entry)) for name, entry in model.members.items()}
    family = Family(
        model.name,
        model.base,
        members,
        model.dtype,
        model.device,
        model.attention,
        dispatch=weights,
        architecture=given_architecture(model.architecture),
    )
    if model.donor is not None:
        family.checkpoint(model.donor, "model.donor")
    return family


def _top_level(given: Mapping[str, Any]) -> TopConfig:
    """What is set outside of all sections.

    Raises:
        UserError: A value is not what its key takes.
    """
    top: TopConfig = read({entry.name: given[entry.name] for entry in fields(TopConfig)}, TopConfig, "")
    for key, fix in _EMPTY.items():
        text = getattr(top, key)
        if text is not None and not text.strip():
            raise UserError(key, "is empty", fix=fix)
        if text is not None and "\0" in text:
            raise UserError(key, f"{text!r} has a null character in it")
    if top.padding not in PADDINGS:
        raise UserError("padding", f"unknown side {top.padding!r}", PADDINGS)
    return top
