"""Every configuration composes and is checked; what is wrong is one line that names the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import DictConfig

from entitrack.cli.config import CONF, check, check_values
from entitrack.cli.general import GeneralSettings
from entitrack.cli.kinds import BACKENDS, LAUNCHERS, TASKS, tracking_modes
from entitrack.core.errors import UserError
from entitrack.core.parts import part_of
from entitrack.core.settings import defaults, read
from entitrack.methods import method_names, settings_of
from entitrack.run import experiment_of
from entitrack.tasks.boxes.prompts import BoxesPrompt
from entitrack.tasks.protocol import Task

ON_SEARCH = {"attribution", "cmap_map", "dcm", "path_patching", "positions", "stability"}
"""Methods that choose, on the part that choices are made on; all others judge, but for those without prompts."""
WITHOUT_PROMPTS = {"compare"}


def compose(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def options(group: str) -> list[str]:
    return sorted(TASKS) if group == "task" else sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("method", method_names())
def test_every_method_has_a_configuration(method: str) -> None:
    composed = compose(f"method={method}")
    assert set(composed.method) == {"name", *settings_of(method).model_fields}
    config = check(composed)
    assert config.method == method
    assert config.settings == settings_of(method)()


def contexts_of(task: Task) -> set[str]:
    prompts = [prompt for prompt in task.prompts() if isinstance(prompt, BoxesPrompt)]
    return {part_of(prompt.context.text) for prompt in prompts}


@pytest.mark.parametrize("method", method_names())
def test_every_method_has_prompts_of_its_part(method: str) -> None:
    experiment = experiment_of(check(compose(f"method={method}", "task.count=140")))
    expected = {"search"} if method in ON_SEARCH else {"search", "judge"} if method in WITHOUT_PROMPTS else {"judge"}
    assert contexts_of(experiment.task) == expected
    assert contexts_of(experiment.on_search().task) == {"search"}
    told = experiment_of(check(compose(f"method={method}", "task.count=140", "task.part=all")))
    assert contexts_of(told.task) == contexts_of(told.on_search().task) == {"search", "judge"}


@pytest.mark.parametrize("group", ["model", "task"])
def test_every_option_composes(group: str) -> None:
    for option in options(group):
        extra = ["task.path=x.jsonl"] if option in ("boxes_file", "table") else []
        check(compose(f"{group}={option}", *extra))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_composes(backend: str) -> None:
    composed = compose(f"backend={backend}")
    assert composed.backend == {"name": backend, **defaults(BACKENDS[backend].settings)}
    assert check(composed).backend.name == backend


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes(launcher: str) -> None:
    composed = compose(f"launcher={launcher}")
    assert composed.launcher == {"name": launcher, **defaults(LAUNCHERS[launcher])}
    checked = check_values(composed)
    assert (checked.launcher, checked.launcher_settings) == (launcher, LAUNCHERS[launcher]())


@pytest.mark.parametrize("mode", tracking_modes())
def test_every_way_to_record_composes(mode: str) -> None:
    assert check(compose(f"tracking={mode}")).tracking.mode == mode


def test_defaults_outside_of_sections_are_declared_once() -> None:
    """All but the two that point elsewhere."""
    composed, declared = compose(), defaults(GeneralSettings)
    pointing = {"donor": "float", "store": "outputs/store"}
    assert {name: composed[name] for name in declared} == {**declared, **pointing}


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    check(compose(f"experiment={experiment}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("donor=nope", "donor: family 'sparse' has no member 'nope'; available: llama, vicuna, goat, float"),
        ("model.base=nope", r"model\.base: family 'sparse' has no member 'nope'"),
        ("method.name=nope", r"method\.name: unknown method 'nope'; available: .*cmap"),
        ("+method.nope=1", r"method\.nope: unknown key; available: groups"),
        ("method.groups=3", r"method\.groups"),
        ("task.count=many", r"task\.count.*many"),
        ("task.boxes=40", r"task\.boxes: 40 boxes"),
        ("compat=old", r"compat: unknown compat 'old'; available: default, paper"),
        ("task=boxes_file", r"task"),
        ("padding=up", "padding: unknown padding 'up'; available: right, left"),
        ("batch_size=0", "^batch_size: 0 is not 1 or more"),
        ("batch_size=few", "^batch_size: .*few"),
        ("memory=much", "^memory: 'much' is neither 'auto' nor a number above 0"),
        ("memory=-1", "^memory: -1 is neither 'auto' nor a number above 0"),
        ("seed=x", "^seed: .*x"),
        ("seed=-1", "^seed: -1 is not 0 or more"),
        ("store=[1]", "^store: "),
        ("model.attention=nope", "^model.attention: unknown attention 'nope'; available: sdpa, eager"),
        ("task.count=0", "^task.count: 0 is not 1 or more"),
        ("backend=ndif backend.in_flight=0", "^backend.in_flight: 0 is not 1 or more"),
        ("backend=ndif backend.max_jobs=-1", "^backend.max_jobs: -1 is not 0 or more"),
        ("task=boxes_file task.path=x task.count=-3", "^task.count: -3 is not 0 or more"),
        ("method=path_patching method.verify=-3", "^method.verify: -3 is not 0 or more"),
        ("method=path_patching ++method.stages.0.size=-2", "^method.stages.0.size: -2 is not 1 or more"),
        ("method=path_patching method.choose.threshold=-1", "^method.choose.threshold: -1 is not 0 or more"),
        ("method=path_patching method.choose.rate=1", "^method.choose.rate: 1 is not above 0 and below 1"),
        ("method=attribution method.top=0", "^method.top: 0 is not 1 or more"),
        ("method=positions method.enough=-1", "^method.enough: -1 is not 0 or more"),
        ("method=desiderata method.prompt=-1", "^method.prompt: -1 is not 0 or more"),
        ("method=minimality method.threshold=nan", "^method.threshold: nan is not a finite number"),
        ("method=minimality method.share=1.5", "^method.share: 1.5 is not 0 or more and 1 or less"),
        ("method=completeness method.share=0", "^method.share: 0 is not 0.01 or more and 1 or less"),
        ("method=faithfulness method.random_circuits=-1", "^method.random_circuits: -1 is not 0 or more"),
        ("method=dcm method.draws=0", "^method.draws: 0 is not 1 or more"),
        ("method=dcm method.sparsity=[0.1,-1]", "^method.sparsity.1: -1 is not 0 or more"),
        ("method=dcm method.learning_rate=inf", "^method.learning_rate: inf is not a finite number"),
        ("~batch_size", "^batch_size: has no value"),
        ("batch_size=1e3", "^batch_size: 1000.0 is not a whole number"),
        ("method=dcm method.steps=1e3", "^method.steps: 1000.0 is not a whole number"),
        ("tracking.mode=sometimes", "^tracking.mode: unknown mode 'sometimes'; available: offline, online, disabled"),
        ("model.dtype=int3", "^model.dtype: unknown dtype 'int3'; available: float32"),
        ("+model.members.float.nope=1", r"^model\.members\.float\.nope: unknown key; available: path"),
        ("~model.members.float.path", r"^model\.members\.float\.path: has no value"),
        ("seed=99999999999999999999", "^seed: 99999999999999999999 is not 0 or more and below 9.2"),
    ],
)
def test_what_is_wrong_is_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check(compose(*override.split()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "method=cmap method.components=[q]",
            "^method.components.0: the output form does not move 'q'; .*z, resid_pre",
        ),
        ("method=path_patching method.choose.rate=.1", "^method.choose.rate: is not used with by=count; .* by=fdr"),
        ("method=path_patching method.choose.threshold=.1", "^method.choose.threshold: is not used with by=count"),
        (
            "method=evaluate donor=goat",
            "^donor: method 'evaluate' uses none; leave it out, or choose among cmap, cmap_map, cmap_order, compare$",
        ),
        ("method=path_patching circuit=goat", "^circuit: method 'path_patching' uses none; .*cmap"),
    ],
)
def test_what_a_method_would_ignore_is_refused(overrides: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(compose(*overrides.split()))


@pytest.mark.parametrize(
    "overrides",
    [
        "method=cmap method.form=input method.components=[q] donor=goat circuit=goat",
        "method=path_patching method.choose.by=fdr method.choose.rate=.1",
        "method=positions method.ablation=zero method.mean_count=7",
        "method=evaluate donor=float",
        "method=evaluate donor=null",
    ],
)
def test_what_it_uses_or_what_changes_nothing_is_taken(overrides: str) -> None:
    check(compose(*overrides.split()))


@pytest.mark.parametrize(
    ("device", "message"),
    [("nope", "^model.device: unknown device 'nope'; available: auto, cpu"), ("cuda:99", "'cuda:99' is not there")],
)
def test_a_device_that_is_not_there_is_named(device: str, message: str) -> None:
    family = check(compose(f"model.device={device}")).family
    with pytest.raises(UserError, match=message):
        family.load(family.base)


def test_top_level_keys_may_point_into_sections() -> None:
    config = check(compose("seed=${task.seed}", "task.seed=7", "store=${task.name}/s"))
    assert (config.seed, config.store) == (7, "boxes/s")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: read(settings_of("dcm"), {"draws": 0}), "^method.draws: 0 is not 1 or more"),
        (lambda: read(settings_of("completeness"), {"share": np.float32(0)}), "^method.share: 0.0 is not 0.01 or more"),
        (lambda: read(settings_of("path_patching"), {"choose": {"rate": 2}}), "^method.choose.rate: 2 is not above 0"),
        (lambda: TASKS["boxes"](count=-3), "^task.count: -3 is not 1 or more"),
        (lambda: BACKENDS["ndif"].settings(in_flight=0), "^backend.in_flight: 0 is not 1 or more"),
    ],
)
def test_numbers_are_checked_in_python_too(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_configuration_is_found_beside_or_inside_the_package() -> None:
    assert (CONF / "config.yaml").is_file()
    assert CONF in (Path(__file__).parents[2] / "conf", Path(__file__).parents[2] / "entitrack" / "conf")
