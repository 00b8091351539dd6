"""Running circuits over the tokens that have a role, on top of an ablated prompt.

A circuit is described by its difference from a run that has been done (its parent): the empty circuit, or one
reference. It starts behind the attention of the first layer, and at the first role, where the two differ. Circuits
that start alike go through together, packed side by side in one row while the prompt's keys and values are shared.

Replaced: z of the heads that are not live. Recomputed: everything at the tokens with a role. Frozen: nothing else,
for nothing else depends on the circuit.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.engine.ablation import ablate_everything, fill_values, final_outcomes, put_outcomes
from entitrack.engine.packing import pack_inputs, run_layers
from entitrack.engine.sites import Anatomy


def circuit_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    fill: dict[str, Tensor],
    positions: Int[Tensor, "batch role"],
    reference: Bool[Tensor, "role layer head"],
    circuits: Bool[Tensor, "circuit role layer head"],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """What circuits answer: all heads outside them are ablated, and at positions without a role every head is.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding; `answers`, `rivals`, see `outcomes`.
        fill: What ablated heads take, see `fill_values`.
        positions: Position of each role, in ascending order in every prompt; the last is the prompt's last token.
        reference: The circuit that most of the others differ little from; results do not depend on it.
        circuits: Live heads of each circuit.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction`, `probability`, `margin`, each `[circuit, batch]`, see `outcomes`.
    """
    fills = fill_values(model, anatomy, fill)
    empty = ablate_everything(model, anatomy, prompts, fills, positions)
    world = {"prompts": prompts, "fills": fills, "positions": positions, "chunk_tokens": chunk_tokens}
    parents = [(torch.zeros_like(reference), empty)]
    if bool(reference.any()):
        parents.append((reference, advance(model, anatomy, world, empty, reference)))
    shape = (circuits.shape[0], positions.shape[0])
    results: dict[str, Tensor] = {}
    for job in plan([heads for heads, _ in parents], circuits, shape[1], chunk_tokens):
        found = rerun(model, anatomy, world, parents[job["parent"]][1], circuits, job)
        put_outcomes(results, shape, job["circuits"], job["rows"], found)
    return results


def plan(parents: list[Tensor], circuits: Tensor, n_prompts: int, chunk_tokens: int) -> list[dict[str, Any]]:
    """Which circuits go through together: those with one parent, first role and first layer.

    Each circuit takes the parent that leaves it the least to compute. In the last layer only the last role matters;
    a circuit equal to its parent starts there.
    """
    n_roles, n_layers = circuits.shape[1:3]
    starts = []
    for parent in parents:
        differs = (circuits != parent[None]).any(3)
        differs[:, :-1, -1] = False
        first = _first_true(differs.any(2), n_roles - 1)
        layer = _first_true(differs.any(1), n_layers - 1)
        starts.append(torch.stack([(n_roles - first) * (n_layers - layer), first, layer], 1))
    costs = torch.stack(starts)
    chosen = costs[:, :, 0].argmin(0)
    kinds = torch.cat([chosen[:, None], costs[chosen, torch.arange(len(chosen), device=chosen.device), 1:]], 1)
    jobs = []
    for kind in kinds.unique(dim=0):
        members = (kinds == kind).all(1).nonzero().flatten()
        parent, first, start = kind.tolist()
        length = n_roles - first
        most = max(1, chunk_tokens // length)
        for chunk in members.split(most):
            for rows in torch.arange(n_prompts, device=members.device).split(max(1, most // len(chunk))):
                job = {"circuits": chunk, "rows": rows, "parent": parent, "first": first, "start": start}
                jobs.append(job)
    return jobs


def _first_true(flags: Bool[Tensor, "circuit place"], otherwise: int) -> Int[Tensor, " circuit"]:
    """Index of the first True of every row; `otherwise` in rows that have none."""
    return torch.where(flags.any(1), flags.int().argmax(1), otherwise)


def advance(
    model: Any, anatomy: Anatomy, world: dict[str, Any], empty: dict[str, Any], reference: Tensor
) -> dict[str, Any]:
    """The state of a run of the reference, in the form of the empty circuit's (see `ablate_everything`)."""
    state = {name: [entry.clone() for entry in empty[name]] for name in ("streams", "z", "keys", "values")}
    n_prompts = world["positions"].shape[0]
    for job in plan([torch.zeros_like(reference)], reference[None], n_prompts, world["chunk_tokens"]):
        rerun(model, anatomy, world, empty, reference[None], {**job, "first": 0}, state)
    return {**state, "cache": empty["cache"]}


def rerun(
    model: Any,
    anatomy: Anatomy,
    world: dict[str, Any],
    parent: dict[str, Any],
    circuits: Tensor,
    job: dict[str, Any],
    record: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """One pass of a job's circuits over the tokens from its first role on.

    Args:
        model: The model.
        anatomy: Its anatomy.
        world: `prompts`, `fills`, `positions` and `chunk_tokens` of the whole batch.
        parent: State of the run that the circuits start from.
        circuits: All circuits.
        job: See `plan`.
        record: A state to write this run into; the job then has one circuit.

    Returns:
        See `outcomes`, `[row, circuit]`.
    """
    rows, first, start = (job[name] for name in ("rows", "first", "start"))
    prompts = {name: values[rows] for name, values in world["prompts"].items()}
    slots = world["positions"][rows][:, None, first:]
    live = circuits[job["circuits"]][:, first:]
    inputs = pack_inputs(model, anatomy, prompts["tokens"], slots, len(live), parent, rows, start + 1)
    known = {"stream": parent["streams"][start][rows, first:], "z": parent["z"][start][rows, first:]}
    run = {"rows": rows, "live": live, "start": start, **known}
    with torch.no_grad(), model.trace(inputs["forward"], use_cache=True) as tracer:
        done = run_layers(model, anatomy, world["fills"], inputs, run)
        found = final_outcomes(model, anatomy, done["hidden"], prompts, world["chunk_tokens"])
        tracer.stop()
    if record is not None:
        write_state(record, done, inputs["forward"]["past_key_values"], rows, world["positions"][rows])
    return found


def write_state(state: dict[str, Any], done: dict[str, Any], cache: Any, rows: Tensor, positions: Tensor) -> None:
    """Write the run of one circuit, over all roles, into a state."""
    for name in ("streams", "z"):
        for layer, values in done[name].items():
            state[name][layer][rows] = values.detach()
    for layer in done["streams"]:
        for name, kept in (("keys", cache.layers[layer].keys), ("values", cache.layers[layer].values)):
            new = kept[:, :, -positions.shape[1] :].transpose(1, 2)
            state[name][layer][rows[:, None], :, positions] = new.to(state[name][layer])
