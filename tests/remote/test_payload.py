"""What travels: code that a server can unpack without our package, slices and not models."""

from __future__ import annotations

import inspect
import io
import pkgutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import zstandard

import entitrack.engine
from entitrack.core.circuits import Circuit
from entitrack.engine.patching import answer
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Runner, Unit
from entitrack.runtime.ndif import payload
from entitrack.runtime.store import Store
from tests.remote import matrix
from tests.remote.allowed import forbidden
from tests.remote.harness import Loopback, largest_difference
from tests.remote.scenarios import Bench

MOST_DOWN = 64 * 1024
MOST_OVERHEAD = 1.5


def interventions() -> list[tuple[str, Callable[..., Any]]]:
    """Every function that may travel."""
    found: list[tuple[str, Callable[..., Any]]] = []
    for module in pkgutil.iter_modules(entitrack.engine.__path__):
        loaded = import_module(f"entitrack.engine.{module.name}")
        members = inspect.getmembers(loaded, inspect.isfunction)
        found += [(name, member) for name, member in members if member.__module__ == loaded.__name__]
    return found


@pytest.mark.parametrize(("name", "function"), interventions())
def test_interventions_need_only_what_servers_allow(name: str, function: Callable[..., Any]) -> None:
    assert forbidden(inspect.getsource(function)) == []


def test_all_code_unpacks_where_the_package_does_not_exist(server: Loopback, bare_family: Family) -> None:
    """The server cannot take anything from a module that it does not have."""
    model = bare_family.load("base")
    assert server.counts()["importable"] is False
    for _, function in interventions():
        server.unpack(payload.pack(Unit("key", model, function, {})), payload.envelope(model))


def test_code_that_is_only_named_does_not_unpack(
    server: Loopback, bare_family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the server has no package of ours is no empty promise: what is named by its module is not found there."""
    here = ModuleType("only_here")
    exec("def function(model): ...", here.__dict__)
    monkeypatch.setitem(sys.modules, here.__name__, here)
    model = bare_family.load("base")
    unit = Unit("key", model, here.function, {})
    with pytest.raises(AssertionError, match="No module named 'only_here'"):
        server.unpack(payload.pack(unit), payload.envelope(model))


def test_path_patching_is_one_job_a_batch_with_little_to_fetch(
    server: Loopback, bare_family: Family, golden_circuit: Circuit
) -> None:
    on = matrix.experiment(bare_family, golden_circuit, server.backend(), batch_size=84, count=84)
    runner = matrix.run("path_patching", on)
    stages = len(runner.results["base.path_effects"])
    assert runner.cost.jobs == stages == 4
    assert runner.cost.wire_down / runner.cost.jobs <= MOST_DOWN


def test_a_transplant_carries_little_but_its_slices(
    server: Loopback, bare_family: Family, golden_circuit: Circuit
) -> None:
    on = matrix.experiment(bare_family, golden_circuit, server.backend(), batch_size=84, count=84)
    runner = matrix.run("cmap", on)
    heads = sum(len(group.heads) for group in golden_circuit.groups)
    slices = 84 * heads * bare_family.load("base").anatomy["d_head"] * 4
    assert sum(values.numel() * 4 for values in runner.results["donor.read_sites"][0]["values"]) == slices
    _, to_base, *_ = server.counts()["uploads"][-4:]  # the last two are of random heads
    assert to_base <= MOST_OVERHEAD * slices


def test_damaged_results_are_recognised(bench: Bench) -> None:
    stream = io.BytesIO()
    torch.save({"result": {"values": torch.arange(1000.0)}}, stream)
    whole = zstandard.compress(stream.getvalue())
    assert payload.unpack(whole)["values"].sum() == 499_500
    for damaged in (b"", whole[:-10], whole[: len(whole) // 2], b"x" + whole, zstandard.compress(b"no archive")):
        with pytest.raises(payload.CorruptResult):
            payload.unpack(damaged)


def test_a_result_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    stream = io.BytesIO()
    torch.save({"result": Trap()}, stream)
    with pytest.raises(payload.CorruptResult):
        payload.unpack(zstandard.compress(stream.getvalue()))
    with pytest.raises(payload.CorruptResult):
        payload.unpack_state(stream.getvalue())
    assert not (tmp_path / "sprung").exists()


def test_the_client_needs_no_weights(bench: Bench, golden_folder: Path, tmp_path: Path) -> None:
    """Structure and tokenizer from a folder without weights; the model by the name that the server has for it."""
    bare = tmp_path / "structure"
    bare.mkdir()
    for file in (golden_folder / "base").iterdir():
        if file.suffix == ".json":
            (bare / file.name).write_bytes(file.read_bytes())
    checkpoint = Checkpoint(str(bare), hosted=str(golden_folder / "base"))
    family = Family("bare", "base", {"base": checkpoint}, dispatch=False)
    runner = Runner(bench.server.backend(), Store(tmp_path / "store"))
    results = list(runner.map(family.load("base"), answer, bench.inputs))
    assert largest_difference(results, bench.right) <= 1e-6
