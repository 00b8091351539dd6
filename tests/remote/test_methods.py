"""A method gives the same on a server, in nnsight's simulation of one, and here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.methods import method_names
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Local, dry_run
from tests.remote import matrix
from tests.remote.harness import KEY, Loopback, largest_difference

TOLERANCE = 1e-6
FIRST_STAGE = [{"name": "value_fetcher", "role": "last", "component": "logits", "receivers": "", "size": 6}]


@pytest.mark.parametrize("method", method_names())
def test_every_method_gives_the_same_everywhere(
    method: str, server: Loopback, bare_tiny: Family, tiny_family: Family
) -> None:
    here = matrix.run(method, matrix.tiny_experiment(tiny_family, Local()))
    simulated = matrix.run(method, matrix.tiny_experiment(tiny_family, dry_run()))
    remote = matrix.run(method, matrix.tiny_experiment(bare_tiny, server.backend()))
    assert here.cost.units > 0 or method in ("compare", "desiderata")  # which run no model
    assert max(matrix.differences(here, simulated).values(), default=0) <= TOLERANCE
    assert max(matrix.differences(here, remote).values(), default=0) <= TOLERANCE
    assert remote.cost.jobs == remote.cost.units == here.cost.units


@pytest.mark.parametrize("method", ["path_patching", "cmap", "faithfulness", "attention_knockout", "positions"])
def test_a_key_that_is_not_trusted_gives_the_same(
    method: str, server: Loopback, bare_tiny: Family, tiny_family: Family
) -> None:
    """Its code runs in a sandbox, in a form of its own."""
    server.set(key=KEY, tags="")
    try:
        there = matrix.run(method, matrix.tiny_experiment(bare_tiny, server.backend(key=KEY)))
    finally:
        server.set(key="", tags="trusted")
    here = matrix.run(method, matrix.tiny_experiment(tiny_family, Local()))
    shares, logits = matrix.by_kind(here, there)
    assert shares <= 1e-5
    assert logits <= 1e-3


def test_the_other_form_does_not_run_in_a_sandbox(server: Loopback, bare_tiny: Family) -> None:
    """The sandbox is no empty promise: what goes over keys and values, and calls modules by themselves, fails there."""
    server.set(key=KEY, tags="")
    backend = server.backend(key=KEY)
    backend.__dict__["_trusted"] = True
    try:
        with pytest.raises(UserError, match="failed"):
            matrix.run("path_patching", matrix.tiny_experiment(bare_tiny, backend))
    finally:
        server.set(key="", tags="trusted")


def test_the_server_has_no_package_of_ours(server: Loopback) -> None:
    assert server.counts()["importable"] is False


def test_the_client_has_no_weights(bare_family: Family) -> None:
    module = bare_family.load("base").envoy._module
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_input_transplants_travel_too(
    server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    here = matrix.run("cmap", matrix.experiment(full_family, golden_circuit, Local()), form="input")
    remote = matrix.run("cmap", matrix.experiment(bare_family, golden_circuit, server.backend()), form="input")
    assert max(matrix.differences(here, remote).values(), default=0) <= TOLERANCE


def test_components_of_counterfactuals_travel_too(server: Loopback, bare_tiny: Family, tiny_family: Family) -> None:
    on_both = (matrix.tiny_experiment(tiny_family, Local()), matrix.tiny_experiment(bare_tiny, server.backend()))
    here, remote = (matrix.run("activation_patching", on, component="attn_out") for on in on_both)
    assert list(here.results) == ["float.moved_answers"]
    assert max(matrix.differences(here, remote).values()) <= TOLERANCE


def test_an_adapter_is_named_and_the_server_applies_it(
    server: Loopback, golden_folder: Path, golden_circuit: Circuit, tmp_path: Path
) -> None:
    adapter = adapter_for(golden_folder / "base", tmp_path / "adapter")
    members = {"base": Checkpoint(str(golden_folder / "base"))}
    members["donor"] = Checkpoint(str(golden_folder / "base"), adapter=str(adapter))
    with_weights, bare = (Family("adapted", "base", members, device="cpu", dispatch=here) for here in (True, False))
    here = matrix.run("cmap", matrix.experiment(with_weights, golden_circuit, Local()))
    remote = matrix.run("cmap", matrix.experiment(bare, golden_circuit, server.backend()))
    assert max(matrix.differences(here, remote).values(), default=0) <= TOLERANCE
    plain = matrix.run("evaluate", matrix.experiment(bare, golden_circuit, server.backend()))
    apart = [plain.results[f"{name}.answer_logits"] for name in members]
    assert all(apart)
    assert largest_difference(*apart) > 1e-3


def adapter_for(model: Path, folder: Path) -> Path:
    """A LoRA adapter with random weights."""
    loaded = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    adapted = get_peft_model(loaded, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(folder))
    return folder


def test_a_server_computes_in_float32_on_weights_in_half_precision(server: Loopback, golden_circuit: Circuit) -> None:
    """Autocast is switched off there, and the weights are cast up: scores are those found here, without noise."""
    checkpoint = Checkpoint(server.hosted[2])
    found = {}
    for name, backend in (("here", Local()), ("there", server.backend())):
        members = {"base": checkpoint, "donor": checkpoint}
        half = Family("half", "base", members, dtype="bfloat16", device="cpu", dispatch=name == "here")
        found[name] = matrix.run("path_patching", matrix.experiment(half, golden_circuit, backend), stages=FIRST_STAGE)
    assert max(matrix.differences(found["here"], found["there"]).values()) <= TOLERANCE
    assert max(float(result["null"].abs().mean()) for result in found["there"].results["base.path_effects"]) <= 1e-6


def test_screening_and_the_naive_check_travel_too(
    server: Loopback, bare_family: Family, full_family: Family, golden_circuit: Circuit
) -> None:
    settings = {"screen": "attribution:0.5", "verify": 1, "stages": FIRST_STAGE}
    here, remote = (
        matrix.run("path_patching", matrix.experiment(family, golden_circuit, backend, 7, 7), **settings)
        for family, backend in ((full_family, Local()), (bare_family, server.backend()))
    )
    assert max(matrix.differences(here, remote).values(), default=0) <= TOLERANCE
    assert {"base.attribution_effects", "base.naive_effects"} <= remote.results.keys()
