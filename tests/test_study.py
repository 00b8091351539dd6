"""The Python API: the same questions, defaults and complaints as on the command line, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import getbase
from torch import Tensor

import entitrack
from entitrack import Study, UserError, load
from entitrack.methods import method_names, settings_of
from entitrack.study import SECTIONS, TOP
from tests.conftest import Launch

FEW = {"count": 28}
CPU = ("model.device=cpu",)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Twenty-eight prompts on the embedded family."""
    return Study(model="tiny", task=FEW, overrides=CPU, store=tmp_path_factory.mktemp("study") / "store")


def test_importing_the_package_is_light() -> None:
    look = "import sys, entitrack; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, env=environment, check=True)
    assert not {"torch", "transformers", "nnsight", "hydra", "pandas", "matplotlib"} & set(done.stdout.split())


def test_what_is_offered_is_there() -> None:
    assert {name: getattr(entitrack, name).__name__ for name in dir(entitrack)}.keys() == set(entitrack.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = entitrack.nothing_of_the_kind


def test_python_and_the_command_line_give_the_same(launch: Launch, tmp_path: Path) -> None:
    words = ["method=cmap", "donor=float", "method.controls=2", "task.count=28", "model.device=cpu"]
    assert launch(*words, "hydra.run.dir=run") == 0
    told = load(tmp_path / "run")
    asked = Study(task=FEW, overrides=CPU).run("cmap", donor="float", controls=2)
    assert (asked.tables, asked.notes, asked.facts) == (told.tables, told.notes, told.facts)
    assert dict(asked.measurements) == dict(told.measurements)
    for part in ("config", "models", "circuit", "prompts", "device", "versions"):
        assert asked.provenance[part] == told.provenance[part]
    assert asked.provenance["cost"]["units"] == 0  # both keep what is finished in the same store
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {"store"}


def test_the_recorded_command_gives_the_result_again(launch: Launch, tmp_path: Path) -> None:
    study = Study(task={"count": 12, "without": ["apple"]}, overrides=CPU, seed=3, store=None)
    asked = study.run("evaluate", models=["llama"], boxes=[2, 3])
    assert launch(*asked.provenance["overrides"], "tracking=disabled", "hydra.run.dir=run") == 0
    told = load(tmp_path / "run")
    assert (asked.tables, dict(asked.measurements)) == (told.tables, dict(told.measurements))
    for part in ("task", "method", "model", "seed", "store"):
        assert asked.provenance["config"][part] == told.provenance["config"][part]


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = Study(task=FEW, overrides=CPU, store=None).run("evaluate", models=["llama"])
    assert list(tmp_path.iterdir()) == []
    result.save("mine")
    assert load("mine").tables == result.tables
    assert (tmp_path / "mine" / "hydra" / "config.yaml").is_file()


def test_models_are_loaded_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.run("evaluate", models=["llama"])
    monkeypatch.setattr("entitrack.models.family.load_base", lambda *given: pytest.fail("loaded again"))
    study.run("evaluate", models=["llama"], task={"count": 14})
    other = Study(task=FEW, overrides=CPU, store=None)
    with pytest.raises(BaseException, match="loaded again"):
        other.run("evaluate", models=["llama"])


def test_what_one_run_found_is_given_to_the_next(study: Study) -> None:
    one: dict[str, Any] = {"desiderata": ["object_value"]}
    masks = study.run("dcm", steps=3, force=True, **one, task={"split": "train"}).artefacts["masks"]
    circuit = study.run("minimality", mean_count=14, force=True).artefacts["circuit"]
    pruned = study.run("cmap", circuit=circuit, donor="float", controls=2)
    (used,) = pruned.provenance["circuit"]
    assert [group["heads"] for group in used["groups"]] == json.loads(
        json.dumps([group.heads for group in circuit.groups])  # type: ignore[union-attr]
    )
    patched = study.run("activation_patching", masks=masks, models=["llama"], desiderata=["object_value"])
    assert patched.facts["masks"]


@pytest.mark.parametrize("given", [{"donor": "goat"}, {"circuit": "goat"}, {"compat": "paper"}, {"donor": None}])
def test_what_is_set_for_all_runs_is_for_those_that_use_it(given: dict[str, Any]) -> None:
    """A method that does not look at it runs without; asked for by itself it is refused as on the command line."""
    study = Study(model="tiny", task=FEW, overrides=CPU, store=None, **given)
    ((name, value),) = given.items()
    assert (study.run("evaluate").provenance["config"][name] == value) == (value is None)
    assert f"{name}={'null' if value is None else value}" in study._words("cmap", {})
    if value is not None:
        with pytest.raises(UserError, match=rf"^{name}: "):
            study.run("evaluate", **given)


def test_a_methods_own_settings_come_before_what_is_set_for_all(study: Study) -> None:
    settings: dict[str, Any] = {"steps": 2, "desiderata": ["object_value"], "force": True}
    found = study.run("dcm", batch_size=7, **settings)
    assert found.provenance["config"]["method"]["batch_size"] == 7
    assert found.provenance["config"]["batch_size"] == 84
    shared = {name: set(TOP) & set(settings_of(name).model_fields) for name in method_names()}
    assert {name: names for name, names in shared.items() if names} == {"dcm": {"batch_size"}}
    assert set(SECTIONS).isdisjoint(TOP)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"doner": "float"}, r"^method\.doner: unknown key; available: groups, .*do you mean donor\?$"),
        ({"donor": "flaot"}, r"^donor: family 'tiny' has no member 'flaot'; available: llama, vicuna, goat, float$"),
        ({"form": "in"}, r"^method\.form: unknown form 'in'; available: output, input$"),
        ({"task": {"cuont": 1}}, r"^task\.cuont: unknown key; .*do you mean count\?$"),
        ({"task": "nope"}, r"^task: there is no task 'nope'; available: "),
        ({"batch_size": 0}, r"^batch_size: 0 is not "),
        ({"groups": object()}, r"^method\.groups: a setting is never of type object; give texts"),
        ({"circuit": "nowhere.json"}, r"^circuit: no file 'nowhere\.json'"),
    ],
)
def test_a_mistake_is_the_line_of_the_command_line(study: Study, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        study.run("cmap", **settings)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "tinny"}, r"^model: there is no model 'tinny'; available: .*llama-7b, .*sparse, tiny$"),
        ({"moodel": "tiny"}, r"^moodel: unknown key; available: .*do you mean model\?$"),
        ({"overrides": ["nope"]}, "^command line: 'nope' is not KEY=VALUE$"),
        ({"donor": "nope"}, "^donor: family 'sparse' has no member 'nope'"),
        ({"overrides": ["experiment=paper"]}, "^study: is of the command line; ask its methods one by one"),
        ({"config_dir": "nowhere"}, "^--config-dir: no folder 'nowhere'$"),
    ],
)
def test_a_study_that_cannot_be_is_refused_at_once(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Study(**given)


def test_an_unknown_method_is_named(study: Study) -> None:
    with pytest.raises(UserError, match=r"^method: there is no method 'cmpa'; available: ablation, "):
        study.run("cmpa")


def test_settings_of_one_run_are_not_those_of_the_next(study: Study) -> None:
    first = study.run("evaluate", models=["llama"], task={"boxes": 3})
    second = study.run("evaluate", models=["llama"])
    tasks = [result.provenance["config"]["task"] for result in (first, second)]
    assert [(task["boxes"], task["count"]) for task in tasks] == [(3, 28), (7, 28)]


def test_a_program_that_uses_hydra_keeps_its_own(study: Study, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("mine: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        opened, version = GlobalHydra.instance().hydra, getbase()
        study.run("evaluate", models=["llama"])
        with pytest.raises(UserError):
            study.run("evaluate", models=["nope"], seed="x")
        assert GlobalHydra.instance().hydra is opened
        assert getbase() == version
        assert hydra.compose("theirs").mine == 1
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is None


def test_no_words_of_the_program_are_read(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["theirs", "--help", "method=nope"])
    assert study.run("evaluate").method == "evaluate"
    assert sys.argv == ["theirs", "--help", "method=nope"]


def test_a_family_of_ones_own_is_found(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "name: mine\nbase: one\nmembers:\n  one: {path: 'zoo://tiny/llama'}\ndevice: cpu\n"
    )
    found = Study(model="mine", task=FEW, config_dir=tmp_path, store=None).run("evaluate")
    assert found["correct"].names("model") == ("one",)
    assert f"--config-dir {tmp_path}" in found.provenance["command"]


def test_keys_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(task=FEW, overrides=["backend.key=0123456789secret"], store=None, backend="ndif")
    assert "secret" not in repr(study)


def test_mean_z_is_the_mean_over_prompts_with_random_content(study: Study) -> None:
    found = study.mean_z("float", count=14)
    from entitrack.models.family import Checkpoint, Family
    from entitrack.tasks.boxes import Boxes

    model = Family("tiny", "float", {"float": Checkpoint("zoo://tiny/float")}, device="cpu").load("float")
    texts = [prompt.text for prompt in Boxes(count=28).backgrounds(14)]
    tokens = torch.tensor(model.envoy.tokenizer(texts)["input_ids"])
    layers, seen = model.envoy._module.model.layers, list[Tensor]()
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0].mean(0)))
        for layer in layers
    ]
    with torch.no_grad():
        model.envoy._module(tokens)
    for hook in hooks:
        hook.remove()
    n_heads = model.anatomy["n_heads"]
    assert found.axes == ("layer", "head", "token", "d_head")
    for layer, z in enumerate(seen):
        for head, of_head in enumerate(z.chunk(n_heads, -1)):
            torch.testing.assert_close(found.values[layer, head], of_head, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match=r"mean_count: 0 is not 1 or more"):
        study.mean_z(count=0)
