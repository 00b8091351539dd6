"""Every configuration composes and is checked; what is wrong is one line that names the key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from entitrack.config import CONF, METHODS, check
from entitrack.errors import UserError


def compose(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_has_a_configuration(method: str) -> None:
    composed = compose(f"method={method}")
    written = {"name", *(field.name for field in dataclasses.fields(METHODS[method].settings))}
    assert set(composed.method) == written
    config = check(composed)
    assert config.method == method
    assert isinstance(config.settings, METHODS[method].settings)


def test_every_configured_method_exists() -> None:
    assert options("method") == sorted(METHODS)


@pytest.mark.parametrize("group", ["model", "donor", "task", "backend", "tracking"])
def test_every_option_composes(group: str) -> None:
    for option in options(group):
        extra = ["task.path=x.jsonl"] if option == "boxes_file" else []
        check(compose(f"{group}={option}", *extra))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    check(compose(f"experiment={experiment}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("donor.name=nope", "donor: family 'tiny' has no member 'nope'; available: llama, vicuna, goat, float"),
        ("model.base=nope", r"model\.base: family 'tiny' has no member 'nope'"),
        ("method.name=nope", r"method\.name: unknown method 'nope'; available: .*cmap"),
        ("+method.nope=1", r"method\.nope: unknown key; available: groups"),
        ("method.groups=3", r"method\.groups"),
        ("task.count=many", r"task\.count.*many"),
        ("task.boxes=40", r"task\.boxes: 40 boxes"),
        ("task.compat=old", r"task\.compat: unknown mode 'old'; available: default, paper"),
        ("task=boxes_file", r"task"),
        ("padding=up", "padding: unknown side 'up'"),
        ("batch_size=0", "batch_size: 0 is not a positive number"),
        ("batch_size=few", "batch_size: 'few'"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check(compose(override))
    assert "\n" not in str(error.value)


def test_configuration_is_found_beside_or_inside_the_package() -> None:
    assert (CONF / "config.yaml").is_file()
    assert CONF in (Path(__file__).parents[1] / "conf", Path(__file__).parents[1] / "entitrack" / "conf")
