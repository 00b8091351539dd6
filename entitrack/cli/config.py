"""A composed configuration, and the checked objects that its sections become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from entitrack.cli.general import GeneralSettings
from entitrack.cli.hydra_errors import omegaconf_error
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS, tracking_modes
from entitrack.cli.sections import SECTIONS, Checked, check_compat, check_use, read_sections
from entitrack.core.errors import UserError, unknown_key
from entitrack.core.quirks import NONE, Quirk, followed
from entitrack.methods import method_names
from entitrack.record.settings import TrackingSettings

if TYPE_CHECKING:
    from entitrack.models.family import Family
    from entitrack.models.settings import FamilySettings
    from entitrack.runtime.backends import Backend
    from entitrack.tasks.protocol import Task

CONF = next(
    folder for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parents[2] / "conf") if folder.is_dir()
)
"""The configuration: inside an installed package, or beside it in a checkout."""


@dataclass(frozen=True)
class RunConfig:
    """A whole configuration, ready to run; `plain` is what of it is recorded, without keys."""

    family: Family
    donor: str | None
    task: Task
    method: str
    settings: Any
    backend: Backend
    tracking: TrackingSettings
    circuit: str | None
    quirks: frozenset[Quirk]
    batch_size: int
    gib: float | None
    padding: str
    seed: int
    store: str | None
    plain: dict[str, Any]


def check(config: DictConfig) -> RunConfig:
    """A composed configuration, checked, with the family and the backend that it names.

    Raises:
        UserError: Naming the key that is wrong, and what would be right.
    """
    checked = check_values(config)
    kind, general = BACKENDS[checked.backend], checked.general
    return RunConfig(
        family=_family(checked.family, kind.weights),
        donor=general.donor,
        task=checked.task,
        method=checked.method,
        settings=checked.settings,
        backend=kind.make(checked.backend_settings),
        tracking=checked.tracking,
        circuit=general.circuit,
        quirks=followed(checked.settings.quirks, checked.task.quirks) if general.compat == "paper" else NONE,
        batch_size=general.batch_size,
        gib=None if general.memory == "auto" else general.memory,
        padding=general.padding,
        seed=general.seed,
        store=general.store,
        plain=checked.plain,
    )


def check_values(config: DictConfig) -> Checked:
    """A composed configuration, every section read as its class, and nothing in it that the method ignores.

    Torch is not imported for it.

    Raises:
        UserError: Naming the key that is wrong, and what would be right.
    """
    checked = read_sections(resolved(config))
    check_use(checked.general, checked.family, checked.method)
    check_compat(checked)
    return checked


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, every section there.

    A family that names no usual donor has none.

    Raises:
        UserError: A section or key is missing or unknown, or a value points to one that does not exist.
    """
    _check_keys(config)
    model = config._get_node("model")
    if isinstance(model, DictConfig) and "donor" not in model:
        with open_dict(model):
            model.donor = None
    try:
        plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise omegaconf_error(error) from error
    return plain


def _check_keys(config: DictConfig) -> None:
    """Refuse a configuration with other sections and keys than there are."""
    known = [*SECTIONS, *GeneralSettings.model_fields]
    for key in config:
        if key == "experiment":
            fix = "begin its file with '# @package _global_'"
            raise UserError(key, "its keys are in a section of their own", fix=fix)
        if key not in known:
            raise unknown_key("", key, known)
    for key in known:
        if key not in config or (key in SECTIONS and config._get_node(key)._is_none()):  # type: ignore[union-attr]
            raise UserError(key, "has no value", _options(key), "" if _options(key) else "set it")


def _options(group: str) -> list[str]:
    """Names that a group offers."""
    kinds: dict[str, Mapping[str, Any]] = {"task": TASKS, "backend": BACKENDS, "launcher": LAUNCHERS}
    offered = {
        "method": method_names(),
        "tracking": tracking_modes(),
        **{name: tuple(of) for name, of in kinds.items()},
    }
    return sorted(offered.get(group) or (file.stem for file in (CONF / group).glob("*.yaml")))


def _family(settings: FamilySettings, weights: bool) -> Family:
    """The family of models, nothing of it loaded."""
    from entitrack.models.anatomy import given_architecture
    from entitrack.models.family import Family

    return Family(
        settings.name,
        settings.base,
        settings.members,
        settings.dtype,
        settings.device,
        settings.attention,
        dispatch=weights,
        architecture=given_architecture(settings.architecture),
        held=settings.held,
    )
