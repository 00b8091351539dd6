"""Circuits as the Mechanistic Interpretability Benchmark has them: a JSON graph of nodes with scores.

{"cfg": {"n_layers": ..., "n_heads": ..., "parallel_attn_mlp": ..., "d_model": ...},
 "nodes": {"input": {"in_graph": ..., "score": ...}, "a0.h0": ..., "m0": ..., "logits": ...}, "edges": {}}

1. Its nodes are whole heads and MLPs, at all positions; a circuit here has heads at roles. So what is written of a head
   is the largest of its scores over stages, and what is read is put at every role that is named.
2. Scores are of nodes (`--level node` there): edges are left out. A node without a score is always kept there, so that
   heads which were not scored have the score 0, and the input, MLPs and logits have none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from jaxtyping import Float
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError, quoted
from entitrack.disk.files import appearing
from entitrack.disk.reading import read_json, take
from entitrack.models.anatomy import Head

_HEAD = re.compile(r"a(0|[1-9]\d{0,5})\.h(0|[1-9]\d{0,5})")


class Config(TypedDict):
    """What the graph is of."""

    n_layers: int
    n_heads: int
    parallel_attn_mlp: bool
    d_model: int


def mib_graph(
    scores: Float[Tensor, "stage layer head"], heads: Collection[Head], d_model: int, parallel: bool = False
) -> dict[str, Any]:
    """A graph with a score for every head: the largest size of its scores over stages.

    Args:
        scores: Of path patching; not a number where a stage did not score a head.
        heads: The heads of the circuit.
        d_model: Width of the stream.
        parallel: Whether MLPs read what attention reads.
    """
    _, layers, width = scores.shape
    sizes = scores.abs().nan_to_num(0.0).amax(0).tolist()
    nodes: dict[str, dict[str, Any]] = {"input": {"in_graph": True}}
    for layer in range(layers):
        for head in range(width):
            nodes[f"a{layer}.h{head}"] = {"in_graph": (layer, head) in heads, "score": sizes[layer][head]}
        nodes[f"m{layer}"] = {"in_graph": True}
    nodes["logits"] = {"in_graph": True}
    config: Config = {"n_layers": layers, "n_heads": width, "parallel_attn_mlp": parallel, "d_model": d_model}
    return {"cfg": config, "nodes": nodes, "edges": {}}


def write_mib(graph: Mapping[str, Any], path: Path) -> None:
    """Write a graph; the file is there whole or not at all."""
    with appearing(path) as stream:
        stream.write((json.dumps(graph) + "\n").encode())


def read_mib(path: str, roles: Sequence[str], top: int | None = None) -> Circuit:
    """The heads of a graph, as a circuit that has them at every one of some roles.

    Args:
        path: The file.
        roles: Roles; the graph names none.
        top: Take so many heads of the largest scores, whatever is marked as in the graph; None: those that are marked.

    Raises:
        UserError: The file does not hold such a graph, or it has no such heads.
    """
    record = read_json(path, "graph")
    try:
        config, nodes = take(record, "cfg", dict), take(record, "nodes", dict)
        sizes = [_size(config, name) for name in ("n_layers", "n_heads")]
        found = {head: _node(name, node) for name, node in nodes.items() if (head := _head(name)) is not None}
    except ValueError as error:
        raise UserError(path, f"is no graph of MIB ({error})") from error
    for one in found:
        if one[0] >= sizes[0] or one[1] >= sizes[1]:
            raise UserError(path, f"has the node a{one[0]}.h{one[1]}, and cfg {sizes[0]} layers of {sizes[1]} heads")
    heads = _best(found, top, path) if top is not None else [head for head, (marked, _) in found.items() if marked]
    if not heads:
        raise UserError(path, "marks no head as in the graph", fix="say how many of the best to take")
    return Circuit(tuple(Group(role, role, tuple(heads)) for role in roles), {"graph": "MIB", "heads": len(heads)})


def _best(found: Mapping[Head, tuple[bool, float | None]], top: int, path: str) -> list[Head]:
    """The heads of the largest scores, the best first."""
    scored = [(head, abs(score)) for head, (_, score) in found.items() if score is not None]
    if len(scored) < top:
        raise UserError(path, f"has scores of {len(scored)} heads, {top} are asked for")
    return [head for head, _ in sorted(scored, key=lambda entry: -entry[1])[:top]]


def _head(name: str) -> Head | None:
    match = _HEAD.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def _size(config: Mapping[str, Any], name: str) -> int:
    size = config.get(name)
    if type(size) is not int or size < 1:
        raise ValueError(f"{name} of cfg is {quoted(size)}, not a whole number from 1")
    return size


def _node(name: str, node: Any) -> tuple[bool, float | None]:
    """Whether a node is marked, and its score if it has one."""
    if not isinstance(node, dict) or not isinstance(node.get("in_graph"), bool):
        raise ValueError(f"node {name} is {quoted(node)}, without a truth `in_graph`")
    score = node.get("score")
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
        raise ValueError(f"the score of node {name} is {quoted(score)}, not a number")
    return node["in_graph"], score
