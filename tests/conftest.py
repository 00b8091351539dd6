"""What tests share: the golden data, and experiments on small models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: nothing here may reach a hub
USER_CACHE = os.environ.get("XDG_CACHE_HOME", "")

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from entitrack import run as door
from entitrack.core.circuits import Circuit, Group
from entitrack.methods import method_names, settings_of
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import encode
from tests.golden_prompts import GoldenTask

SLOW = (
    "remote/",
    "hostile/",
    "runtime/test_claims",
    "examples/test_adding",
    "engine/test_architectures",
    "engine/test_components",
    "engine/test_transplants",
    "methods/test_path_patching_screened.py::test_the_circuit",
    "engine/test_shared_prefixes.py::test_what_is_read",
    "engine/test_shared_prefixes.py::test_branches",
    "engine/test_component_ablation",
    "engine/test_path_patching.py::test_scores_do_not_depend_on_the_memory_budget",
    "naive/test_naive_golden",
    "record/test_figures",
    "record/test_folder",
    "record/test_report",
    "methods/test_cmap.py::test_the_size_of_batches",
    "methods/test_cmap_matrix.py::test_the_size_of_batches",
    "methods/test_dcm.py::test_a_mask_lies",
    "methods/test_path_patching_selection.py::test_where_no_head",
    "runtime/test_keys.py::test_a_changed_byte_in_any_file",
    "test_run.py::test_a_sweep_runs_every_donor",
    "test_simulation",
    "methods/test_activation_patching_components",
    "tasks/test_own_task.py::test_all_methods_run",
    "models/test_zoo",
    "methods/test_stability.py::test_inclusion",
    "methods/test_stability.py::test_a_circuit_is_held",
    "methods/test_stability.py::test_searches_are_kept",
    "methods/test_stability.py::test_a_half_is",
    "methods/test_circuit_curve.py::test_the_order_sees",
    "methods/test_circuit_curve.py::test_each_unit_of_the_greedy",
    "methods/test_cmap_order.py::test_the_size_of_batches",
    "methods/test_cmap_order.py::test_heads_are_ordered",
    "methods/test_cmap_order.py::test_a_worse_donor",
    "methods/test_cmap_order.py::test_what_is_left_out",
    "methods/test_cmap_order.py::test_fewer_steps",
    "methods/test_cmap_matrix",
    "methods/test_minimality.py::test_heads_are_chosen_on_search",
    "methods/test_faithfulness.py::test_ablations_stand",
    "engine/test_precision",
    "engine/test_whole",
    "models/test_real",
    "runtime/test_estimate",
    "models/test_held.py::test_four_members",
    "models/test_held.py::test_one_after",
    "models/test_held.py::test_small_models",
    "models/test_every_method",
    "core/test_words.py::test_every_method",
    "test_first_steps",
    "test_doors",
    "test_docs.py::test_every_command",
    "test_study.py::test_what_one_run_found",
    "test_study.py::test_python_and_the_command_line",
    "test_studies.py::test_a_study_is_one_command",
    "test_sweeps",
    "cli/test_steps.py::test_the_paper",
)
"""Tests of servers, of every mistake and every architecture, that draw, train, or run the main job whole."""

Launch = Callable[..., int]
"""Runs the command line; gives its exit code."""

ROLES = {
    "value_fetcher": "last",
    "pos_transmitter": "last",
    "pos_detector": "query_label",
    "struct_reader": "prev_query_label",
}


def golden_data() -> Path:
    """Where the golden data is."""
    return Path(os.environ.get("ENTITRACK_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))


def patched_circuit(folder: Path) -> Circuit:
    """The circuit that golden's patching ran on."""
    found = json.loads((folder / "golden.json").read_text())["patch.circuit"]
    return Circuit(tuple(Group(name, role, tuple((la, he) for la, he in found[name])) for name, role in ROLES.items()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if f"{item.path.relative_to(here)}::{item.name}".startswith(SLOW):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Digests of files go to a folder of the tests, not to the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    folder = golden_data()
    if not folder.is_dir():
        reason = f"no golden data at {folder}; set ENTITRACK_GOLDEN to its folder"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def golden(golden_folder: Path) -> dict[str, Tensor]:
    return load_file(golden_folder / "golden.safetensors")


@pytest.fixture(scope="session")
def golden_json(golden_folder: Path) -> dict[str, Any]:
    return json.loads((golden_folder / "golden.json").read_text())


@pytest.fixture(scope="session")
def golden_family(golden_folder: Path) -> Family:
    members = {
        "base": Checkpoint(str(golden_folder / "base")),
        "donor": Checkpoint(str(golden_folder / "donor")),
        "twin": Checkpoint(str(golden_folder / "base")),
    }
    return Family("golden", "base", members, device="cpu")


@pytest.fixture(scope="session")
def golden_model(golden_family: Family) -> Model:
    return golden_family.load("base")


@pytest.fixture(scope="session")
def golden_donor(golden_family: Family) -> Model:
    return golden_family.load("donor")


@pytest.fixture(scope="session")
def golden_circuit(golden_folder: Path) -> Circuit:
    """The circuit that golden's patching ran on."""
    return patched_circuit(golden_folder)


@pytest.fixture(scope="session")
def golden_task(golden_family: Family) -> GoldenTask:
    """Prompts of golden's kind, made of words that its tokenizer knows."""
    return GoldenTask(frozenset(golden_family.tokenizer.get_vocab()))


@pytest.fixture
def golden_experiment(golden_family: Family, golden_task: GoldenTask) -> Experiment:
    return Experiment(golden_family, golden_task, Runner(Local()), "donor", batch_size=21)


@pytest.fixture(scope="session")
def tiny_family() -> Family:
    """The embedded family."""
    members = {
        "llama": Checkpoint("zoo://tiny/llama"),
        "vicuna": Checkpoint("zoo://tiny/vicuna"),
        "goat": Checkpoint("zoo://tiny/llama", "zoo://tiny/goat"),
        "float": Checkpoint("zoo://tiny/float"),
    }
    return Family("tiny", "llama", members, device="cpu")


@pytest.fixture
def tiny_experiment(tiny_family: Family) -> Experiment:
    return Experiment(tiny_family, Boxes(count=42), Runner(Local()), "float", batch_size=21)


@pytest.fixture
def golden_overrides(
    tmp_path: Path, golden_folder: Path, golden_family: Family, golden_task: object, golden_circuit: Circuit
) -> list[str]:
    """A command line about the golden models, on a file of prompts."""
    prompts = golden_task.prompts()  # type: ignore[attr-defined]
    encode(prompts, golden_family.tokenizer)
    lines = [json.dumps({"sentence": f"{prompt.text} {prompt.answer}."}) for prompt in prompts]
    (tmp_path / "boxes.jsonl").write_text("\n".join(lines))
    golden_circuit.write(tmp_path / "circuit.json")
    return [
        f"model.members.llama.path={golden_folder / 'base'}",
        f"model.members.float.path={golden_folder / 'donor'}",
        "model.name=golden",
        "model.device=cpu",
        "task=boxes_file",
        f"task.path={tmp_path / 'boxes.jsonl'}",
        f"circuit={tmp_path / 'circuit.json'}",
        "batch_size=21",
    ]


def about_circuits(overrides: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Overrides without a circuit, unless the method that is named last in the arguments is about one."""
    method = [word.removeprefix("method=") for word in arguments if word.startswith("method=")][-1]
    uses = method not in method_names() or settings_of(method).needs_circuit
    return [word for word in overrides if uses or not word.startswith("circuit=")]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """Run the command line in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["entitrack", *arguments])
        try:
            door.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return start
