"""The schema that `conf/` is checked against, and what each section becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from entitrack.backends import Backend, Local, dry_run
from entitrack.errors import UserError
from entitrack.limits import Checked, limited
from entitrack.methods import (
    method_names,
    run_method,
    settings_of,
)
from entitrack.methods.experiment import Experiment, Found
from entitrack.models.anatomy import given_architecture
from entitrack.models.family import Checkpoint, Family
from entitrack.ndif import Ndif
from entitrack.ndif import Settings as NdifSettings
from entitrack.settings import Settings, defaults
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.jsonl import BoxesFile
from entitrack.tasks.prompts import Task

CONF = next(
    folder for folder in (Path(__file__).parent / "conf", Path(__file__).parents[1] / "conf") if folder.is_dir()
)
"""The configuration: inside an installed package, or beside it in a checkout."""

TASKS: dict[str, type] = {"boxes": Boxes, "boxes_file": BoxesFile}
PADDINGS = ("right", "left")


@dataclass(frozen=True)
class Method:
    """A method: how it is run and what may be set."""

    run: Callable[[Experiment, Any], Found]
    settings: type


METHODS: dict[str, Method] = {
    **{name: Method(partial(run_method, name), settings_of(name)) for name in method_names()},
}


def offer_methods() -> None:
    """Tell Hydra what `method=NAME` composes: the defaults of the method's settings."""
    for name in method_names():
        node = {"name": name, **defaults(settings_of(name))}
        ConfigStore.instance().store(name=name, node=node, group="method", provider="entitrack")


offer_methods()


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
    members: dict[str, CheckpointConfig] = field(default_factory=dict)
    dtype: str = "float32"
    device: str = "auto"
    attention: str = "sdpa"
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass
class DonorConfig:
    """Which member of the family the activations come from."""

    name: str = "???"


@dataclass
class TrackingConfig:
    """How W&B records: `offline`, `online` or `disabled`."""

    mode: str = "offline"
    project: str = "entitrack"


@dataclass
class TopConfig(Checked):
    """What is set outside of all sections.

    Attributes:
        circuit: A circuit's file or name; null takes the base's own.
        batch_size: Prompts in a session.
        padding: Side on which shorter prompts are padded.
        seed: Of everything drawn outside the task.
        output_dir: Where runs are recorded.
        store: Where finished sessions are kept; null keeps nothing.
    """

    circuit: str | None = None
    batch_size: int = limited(84, least=1)
    padding: str = "right"
    seed: int = limited(0, least=0, below=2**63)
    output_dir: str = "outputs"
    store: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """A whole configuration, checked."""

    family: Family
    donor: str
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
    model = section(config, "model", ModelConfig)
    task_name = _name(config, "task", TASKS)
    method_name = _name(config, "method", METHODS)
    backend_name = _name(config, "backend", BACKENDS)
    tracking = section(config, "tracking", TrackingConfig)
    members = {name: Checkpoint(**dataclasses.asdict(entry)) for name, entry in model.members.items()}
    top = top_level(config)
    backend = BACKENDS[backend_name]
    family = Family(
        model.name,
        model.base,
        members,
        model.dtype,
        model.device,
        model.attention,
        dispatch=backend.weights,
        architecture=given_architecture(model.architecture),
    )
    donor = section(config, "donor", DonorConfig).name
    family.checkpoint(donor, "donor")
    return RunConfig(
        family=family,
        donor=donor,
        task=section(config, "task", TASKS[task_name], named=True),
        method=method_name,
        settings=section(config, "method", METHODS[method_name].settings, named=True),
        backend=backend.make(section(config, "backend", backend.settings, named=True)),
        tracking=tracking,
        circuit=top.circuit,
        batch_size=top.batch_size,
        padding=top.padding,
        seed=top.seed,
        store=top.store,
        plain=_recorded(config),
    )


def _recorded(config: DictConfig) -> dict[str, Any]:
    """The configuration as it is recorded: without keys."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    if plain["backend"].get("key"):
        plain["backend"]["key"] = "***"
    return plain


def _name(config: DictConfig, key: str, known: dict[str, Any]) -> str:
    """The name of a section's kind, if it is known."""
    name = config[key].get("name")
    if name not in known:
        raise UserError(f"{key}.name", f"unknown {key} {name!r}", known)
    return str(name)


def top_level(config: DictConfig) -> TopConfig:
    """What is set outside of all sections.

    Raises:
        UserError: A value is not what its key takes.
    """
    names = [entry.name for entry in fields(TopConfig)]
    for name in names:
        if name not in config:
            raise UserError(name, "has no value", fix="set it")
    top: TopConfig = _as_schema({name: config[name] for name in names}, "", TopConfig)
    if top.padding not in PADDINGS:
        raise UserError("padding", f"unknown side {top.padding!r}", PADDINGS)
    return top


def section(config: DictConfig, key: str, schema: type, named: bool = False) -> Any:
    """One section of the configuration as an object of its schema.

    Args:
        config: The composed configuration.
        key: Its key.
        schema: A dataclass.
        named: The section has a `name` besides the schema's fields.

    Raises:
        UserError: A key is unknown or missing, or a value is not what its key takes.
    """
    given = OmegaConf.to_container(config[key], resolve=True)
    if named and isinstance(given, dict):
        given.pop("name", None)
    return _as_schema(given, key, schema)


def _as_schema(given: Any, key: str, schema: type) -> Any:
    """Plain values as an object of a schema; `key` is where they are."""

    def place(error: OmegaConfBaseException) -> str:
        return f"{key}.{error.full_key or error.key or ''}".strip(".")

    if issubclass(schema, Settings):
        return schema(**given)
    try:
        empty = OmegaConf.structured(schema)
        OmegaConf.set_readonly(empty, None)
        merged = OmegaConf.merge(empty, given)
        OmegaConf.set_readonly(merged, None)
        return OmegaConf.to_object(merged)
    except ConfigKeyError as error:
        known = [entry.name for entry in fields(schema)] if is_dataclass(schema) else []
        raise UserError(place(error), "unknown key", known) from error
    except MissingMandatoryValue as error:
        raise UserError(place(error), "has no value", fix="set it") from error
    except OmegaConfBaseException as error:
        raise UserError(place(error), str(error).splitlines()[0]) from error
