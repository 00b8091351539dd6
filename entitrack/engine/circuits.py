"""Running circuits over the tokens that have a role, on top of an ablated prompt (paper, section 4.2).

Heads outside a circuit are ablated, and at positions without a role every head is. So what happens at those positions
depends on no circuit: their keys and values are computed once a prompt, and a circuit costs a run over a few tokens.
A circuit is described by its difference from a run that has been done (its parent): the empty circuit, or one
reference. It starts behind the attention of the first layer, and at the first role, where the two differ. Circuits
that start alike go through together.

Replaced: z of the heads that are not live. Recomputed: everything at the tokens with a role. Frozen: nothing else,
for nothing else depends on the circuit.
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.ablation import Fill, ablated_visits, fill_at_slots, fill_values, select_z
from entitrack.engine.anatomy import Anatomy, after_heads
from entitrack.engine.answers import Outcomes, Prompts, final_outcomes, put_outcomes, rows_of
from entitrack.engine.caches import Run
from entitrack.engine.layout import Layout, fill_lanes, flatten, lanes_and_pack, lay_out, prefix_cache
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.rerun import rerun
from entitrack.engine.runs import run_prompts
from entitrack.engine.sites import Visit


class Ablated(TypedDict):
    """Prompts of which all but a few tokens are ablated."""

    prompts: Prompts
    fills: list[Float[Tensor, "#batch token width"]]
    positions: Int[Tensor, "batch role"]
    gib: float | None


class Job(TypedDict):
    """Circuits that go through together, for some prompts."""

    circuits: Int[Tensor, " circuit"]
    rows: Int[Tensor, " row"]
    parent: int
    first: int
    """The first role that is run over."""
    start: int
    """The layer behind whose attention they start."""


def circuit_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    positions: Int[Tensor, "batch role"],
    reference: Bool[Tensor, "role layer head"],
    circuits: Bool[Tensor, "circuit role layer head"],
    gib: float | None,
) -> dict[str, Tensor]:
    """What circuits answer.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts, without padding, with `rivals`.
        fill: What ablated heads take.
        positions: Position of each role, in ascending order in every prompt; the last is the prompt's last token.
        reference: The circuit that most of the others differ little from; results do not depend on it.
        circuits: Live heads of each circuit.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        Outcomes, each `[circuit, batch]`.
    """
    fills, layers = fill_values(model, anatomy, fill), range(anatomy["n_layers"])
    empty = run_prompts(model, anatomy, prompts, streams=layers, z=layers, places=positions, fills=fills)
    ablated: Ablated = {"prompts": prompts, "fills": fills, "positions": positions, "gib": gib}
    parents = [(torch.zeros_like(reference), empty)]
    if bool(reference.any()):
        parents.append((reference, advance(model, anatomy, ablated, empty, reference)))
    shape = (circuits.shape[0], positions.shape[0])
    results: dict[str, Tensor] = {}
    for job in plan(
        [heads for heads, _ in parents], circuits, shape[1], circuit_tokens(anatomy, ablated, len(circuits))
    ):
        answered = run_job(model, anatomy, ablated, parents[job["parent"]][1], circuits, job)
        put_outcomes(results, shape, job["circuits"], job["rows"], answered)
    return results


def circuit_tokens(anatomy: Anatomy, ablated: Ablated, n_circuits: int) -> int:
    """How many tokens with a role go through the model at once, where so many circuits are run."""
    n_roles, positions = ablated["positions"].shape[1], ablated["positions"]
    lane = n_roles * lanes_and_pack(n_circuits, n_roles)[1]
    return tokens_at_once(anatomy, ablated["gib"], positions.device, lane, ablated["prompts"]["tokens"].shape[1])


def plan(parents: list[Tensor], circuits: Tensor, n_prompts: int, chunk_tokens: int) -> list[Job]:
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
    jobs: list[Job] = []
    for kind in kinds.unique(dim=0):
        members = (kinds == kind).all(1).nonzero().flatten()
        parent, first, start = kind.tolist()
        most = max(1, chunk_tokens // (n_roles - first))
        for chunk in members.split(most):
            for rows in torch.arange(n_prompts, device=members.device).split(max(1, most // len(chunk))):
                jobs.append({"circuits": chunk, "rows": rows, "parent": parent, "first": first, "start": start})
    return jobs


def _first_true(flags: Bool[Tensor, "circuit place"], otherwise: int) -> Int[Tensor, " circuit"]:
    """Index of the first True of every row; `otherwise` in rows that have none."""
    return torch.where(flags.any(1), flags.int().argmax(1), otherwise)


def run_job(
    model: Any,
    anatomy: Anatomy,
    ablated: Ablated,
    parent: Run,
    circuits: Bool[Tensor, "circuit role layer head"],
    job: Job,
    record: Run | None = None,
) -> Outcomes:
    """One pass of a job's circuits over the tokens from its first role on.

    Args:
        model: The model.
        anatomy: Its anatomy.
        ablated: The whole batch.
        parent: The run that the circuits start from.
        circuits: All circuits.
        job: Which of them, and for which prompts.
        record: A run to write this one into; the job then has one circuit and goes over all roles.

    Returns:
        Outcomes `[row, circuit]`.
    """
    rows, role, start = job["rows"], job["first"], job["start"]
    live = circuits[job["circuits"]][:, role:]
    slots = ablated["positions"][rows][:, None, role:]
    dtype = parent["keys"][0].dtype
    layout = lay_out(anatomy, ablated["prompts"], rows, slots, len(live), dtype)
    cache = prefix_cache(parent, layout, start + 1)
    visits = ablated_visits(ablated["fills"], layout, live, start + 1)
    if record is not None:
        visits = recording(visits, record, rows)
    prompts = rows_of(ablated["prompts"], rows)

    def enter() -> Tensor:
        stream, z = (parent[name][start][rows, role:] for name in ("streams", "z"))  # type: ignore[literal-required]
        return finish_start(model, anatomy, start, stream, z, ablated["fills"][start], live[:, :, start], layout)

    def answered(hidden: Tensor) -> Outcomes:
        return final_outcomes(model, anatomy, hidden, prompts, ablated["gib"])

    with torch.no_grad():
        result = rerun(model, anatomy, layout, cache, start + 1, enter, visits, answered)
    if record is not None:
        record_cache(record, cache, start + 1, rows, ablated["positions"][rows])
    return result


def finish_start(
    model: Any,
    anatomy: Anatomy,
    start: int,
    stream: Float[Tensor, "row place d_model"],
    z: Float[Tensor, "row place width"],
    fill: Float[Tensor, "#batch token width"],
    live: Bool[Tensor, "circuit place head"],
    layout: Layout,
) -> Float[Tensor, "lane slot d_model"]:
    """The end of the start layer, computed once for each place and set of live heads that occurs there."""
    laid = fill_lanes(live, *layout["shape"][1:3])
    places = torch.arange(laid.shape[2], device=live.device).expand(laid.shape[:3]).flatten()
    heads = laid.flatten(0, 2)
    number = number_rows(places, heads)
    one = torch.empty(int(number.max()) + 1, dtype=torch.long, device=live.device)
    one[number] = torch.arange(len(number), device=live.device)
    place = places[one]
    fills = fill_at_slots(fill, layout)[:, 0, 0, place.to(fill.device)]
    filled = select_z(z[:, place.to(z.device)], heads[one], fills)
    ends = after_heads(model, anatomy, start, stream[:, place.to(stream.device)], filled)
    return flatten(ends[:, number.to(ends.device)].unflatten(1, laid.shape[:3]))


def number_rows(number: Int[Tensor, " row"], flags: Bool[Tensor, "row flag"]) -> Int[Tensor, " row"]:
    """New numbers for numbered rows of flags, from 0 on: equal where both the old number and the flags are.

    32 flags at a time are read as the bits of a number and stand below the old number in one int64; `unique` then
    numbers these. Many times faster than `Tensor.unique` of rows.
    """
    for bits in flags.long().split(32, 1):
        code = (bits << torch.arange(bits.shape[1], device=bits.device)).sum(1)
        number = ((number << 32) + code).unique(return_inverse=True)[1]
    return number


def advance(model: Any, anatomy: Anatomy, ablated: Ablated, empty: Run, reference: Tensor) -> Run:
    """A run of the reference, in the form of the empty circuit's."""
    run: Run = {
        "streams": {layer: values.clone() for layer, values in empty["streams"].items()},
        "z": {layer: values.clone() for layer, values in empty["z"].items()},
        "keys": {layer: values.clone() for layer, values in empty["keys"].items()},
        "values": {layer: values.clone() for layer, values in empty["values"].items()},
        "cache": empty["cache"],
    }
    n_prompts = ablated["positions"].shape[0]
    tokens = circuit_tokens(anatomy, ablated, 1)
    for job in plan([torch.zeros_like(reference)], reference[None], n_prompts, tokens):
        run_job(model, anatomy, ablated, empty, reference[None], {**job, "first": 0}, run)
    return run


def recording(
    visits: dict[int, dict[str, Visit]], record: Run, rows: Int[Tensor, " row"]
) -> dict[int, dict[str, Visit]]:
    """The same visits, which also write the streams and z that they see into a run."""

    def watch(layer: int) -> dict[str, Visit]:
        """The visits of a layer, which also write down what they see."""

        def stream(values: Tensor) -> None:
            record["streams"][layer][rows.to(values.device)] = values

        def z(values: Tensor) -> Tensor | None:
            record["z"][layer][rows.to(values.device)] = values
            return visits[layer]["z"](values)

        return {"resid_pre": stream, "z": z}

    return {layer: watch(layer) for layer in visits}


def record_cache(record: Run, cache: Any, first: int, rows: Tensor, positions: Int[Tensor, "row role"]) -> None:
    """Write the keys and values that a pass over all roles has added into a run."""
    for layer in range(first, len(cache.layers)):
        entry = cache.layers[layer]
        for run, values in ((record["keys"][layer], entry.keys), (record["values"][layer], entry.values)):
            index, places = rows.to(run.device)[:, None], positions.to(run.device)
            run[index, :, places] = values[:, :, -positions.shape[1] :].transpose(1, 2).to(run)
