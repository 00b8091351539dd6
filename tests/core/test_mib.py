"""Graphs of MIB: what is written is read again, the best heads have the largest scores, what is none is named."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entitrack.core.circuits import read_circuit
from entitrack.core.errors import UserError
from entitrack.core.mib import mib_graph, read_mib, write_mib
from entitrack.methods import run_method
from entitrack.methods.experiment import Experiment
from entitrack.methods.path_patching.settings import Settings as PathPatchingSettings

ROOT = Path(__file__).parents[2]
HEADS = st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(heads=HEADS, seed=st.integers(0, 1000))
def test_a_graph_that_is_written_is_read(heads: set[tuple[int, int]], seed: int, tmp_path: Path) -> None:
    scores = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed))
    write_mib(mib_graph(scores, heads, d_model=12), tmp_path / "g.json")
    circuit = read_mib(str(tmp_path / "g.json"), ["last", "query_label"])
    assert [(group.name, group.role) for group in circuit.groups] == [("last", "last"), ("query_label", "query_label")]
    assert all(set(group.heads) == heads for group in circuit.groups)
    circuit.write(tmp_path / "c.json")
    assert read_circuit(str(tmp_path / "c.json"), "none").groups == circuit.groups
    best = read_mib(str(tmp_path / "g.json"), ["last"], top=5).groups[0].heads
    ranked = scores.abs().amax(0).flatten().argsort(descending=True)[:5]
    assert best == tuple((int(place) // 3, int(place) % 3) for place in ranked)


def test_it_has_the_benchmarks_names() -> None:
    scores = torch.tensor([[[-0.5, 0.1]], [[0.2, math.nan]]])
    graph = mib_graph(scores, {(0, 1)}, d_model=8, parallel=True)
    assert graph["cfg"] == {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": True, "d_model": 8}
    assert list(graph["nodes"]) == ["input", "a0.h0", "a0.h1", "m0", "logits"]
    assert graph["nodes"]["a0.h0"] == {"in_graph": False, "score": pytest.approx(0.5)}
    assert graph["nodes"]["a0.h1"] == {"in_graph": True, "score": pytest.approx(0.1)}
    assert graph["nodes"]["m0"] == {"in_graph": True}
    assert graph["edges"] == {}


def a_graph(**change: Any) -> dict[str, Any]:
    return {**mib_graph(torch.ones(1, 2, 2), {(1, 0)}, d_model=4), **change}


CFG = {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 4}


@pytest.mark.parametrize(
    ("graph", "top", "message"),
    [
        ({"nodes": {}}, None, r"is no graph of MIB \(has no 'cfg'\)"),
        ({"cfg": CFG}, None, r"is no graph of MIB \(has no 'nodes'\)"),
        (a_graph(cfg={**CFG, "n_layers": "two"}), None, "n_layers of cfg is 'two', not a whole number"),
        (a_graph(cfg={**CFG, "n_layers": 1}), None, "has the node a1.h0, and cfg 1 layers of 2 heads"),
        (a_graph(nodes={"a0.h0": {"score": 1.0}}), None, "node a0.h0 is .* without a truth `in_graph`"),
        (
            a_graph(nodes={"a0.h0": {"in_graph": True, "score": "x"}}),
            None,
            "the score of node a0.h0 is 'x', not a number",
        ),
        (a_graph(nodes={"a0.h0": {"in_graph": False}}), None, "marks no head as in the graph; say how many"),
        (a_graph(), 5, "has scores of 4 heads, 5 are asked for"),
    ],
)
def test_what_is_no_graph_is_named(graph: dict[str, Any], top: int | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text(json.dumps(graph))
    with pytest.raises(UserError, match=rf"g\.json: .*{message}"):
        read_mib(str(tmp_path / "g.json"), ["last"], top)


@pytest.mark.slow
def test_what_path_patching_found_goes_out_and_comes_in(tiny_experiment: Experiment, tmp_path: Path) -> None:
    found = run_method("path_patching", tiny_experiment, PathPatchingSettings(force=True))
    found.save(tmp_path / "found")
    command = [sys.executable, str(ROOT / "jobs" / "mib.py")]
    written = [*command, "export", str(tmp_path / "found"), str(tmp_path / "g.json"), "--d-model", "96"]
    told = subprocess.run(written, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    heads = {head for group in found.artefacts["circuit"].groups for head in group.heads}  # type: ignore[union-attr]
    assert heads
    assert set(read_mib(str(tmp_path / "g.json"), ["last"]).groups[0].heads) == heads
    best = read_mib(str(tmp_path / "g.json"), ["last"], top=1).groups[0].heads[0]
    sizes = found["score"].values.abs().nan_to_num(0).amax(0)
    assert sizes[best] == sizes.max()


@pytest.mark.slow
def test_the_job_reads_a_graph_and_says_what_is_wrong(tmp_path: Path) -> None:
    write_mib(a_graph(), tmp_path / "g.json")
    command = [sys.executable, str(ROOT / "jobs" / "mib.py"), "import", str(tmp_path / "g.json")]
    told = subprocess.run([*command, str(tmp_path / "c.json")], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert read_circuit(str(tmp_path / "c.json"), "none").groups[0].heads == ((1, 0),)
    told = subprocess.run([*command, str(tmp_path / "d.json"), "--top", "9"], capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr == f"mib: {tmp_path / 'g.json'}: has scores of 4 heads, 9 are asked for\n"
