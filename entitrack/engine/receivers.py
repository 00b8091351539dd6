"""What a model answers when the receivers of path patching take the values that each sender gives them.

Replaced: the receivers at the first token of the suffix. Recomputed: everything after them. Frozen: nothing but the
tokens before the suffix, which cannot see it.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, head_columns, projection, through, unembed
from entitrack.engine.answers import Prompts, answer_probability
from entitrack.engine.layout import Layout, at_slots, fill_lanes, lanes_and_pack, lay_out, prefix_cache
from entitrack.engine.memory import Measured, in_pieces
from entitrack.engine.passes import Passes
from entitrack.engine.rerun import rerun
from entitrack.engine.sites import Visit, put


class Receivers(TypedDict):
    """What takes the values that senders give it."""

    component: str
    """`q`, `k`, `v` or `logits`."""
    heads: NotRequired[list[list[int]]]
    """Each `[layer, head]`; of `k` and `v` those that keys and values have (KV groups). Logits have none."""


class Job(TypedDict):
    """Variants that go through together: their suffixes are equally long, and start in one layer."""

    rows: Int[Tensor, " lane"]
    """The prompt of each lane."""
    variants: Int[Tensor, "lane pack"]
    start: int
    """The first layer that receives."""
    length: int


def receiving_layers(receivers: Receivers) -> list[int]:
    """Layers with receivers, ascending."""
    return sorted({layer for layer, _ in receivers.get("heads", [])})


def receiver_heads(receivers: Receivers, layer: int) -> list[int]:
    """A layer's receivers."""
    return [head for where, head in receivers.get("heads", []) if where == layer]


def receiver_columns(anatomy: Anatomy, receivers: Receivers, layer: int, device: Any) -> Int[Tensor, " width"]:
    """Where a layer's receivers are in the output of their projection."""
    return head_columns(anatomy, receivers["component"], device)[receiver_heads(receivers, layer)].flatten()


def received_probability(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    passes: Passes,
    received: dict[int, Float[Tensor, "batch _ _ d_head"]],
    receivers: Receivers,
    gib: float | None,
    measured: Measured,
) -> tuple[Float[Tensor, "batch variant"], int]:
    """Probability of the right answer for every variant.

    A variant starts at the first receiver above its sender; prompts whose suffixes are equally long go together.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: The clean prompts.
        passes: The clean run.
        received: Layer -> what its receivers become, for the variants that reach it.
        receivers: Which they are.
        gib: Memory budget, see `memory.in_pieces`.
        measured: See there.

    Returns:
        The probabilities, and the bytes that the largest piece takes.
    """
    layers = sorted(received)
    device = passes["probability"].device
    patched = torch.empty(len(clean["last"]), received[layers[-1]].shape[1], device=device)
    lengths = (clean["last"] - clean["position"] + 1).cpu()
    largest = 0
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        first = 0
        for start in layers:
            beyond = received[start].shape[1]
            if beyond == first:
                continue
            job = suffix_job(rows, torch.arange(first, beyond), start, length)

            def work(lanes: Tensor, job: Job = job) -> Tensor:
                return rerun_suffix(model, anatomy, clean, passes, received, receivers, job, lanes)

            tokens = length * job["variants"].shape[1]
            pieces, peak = in_pieces(len(job["rows"]), tokens, gib, device, work, measured)
            patched[job["rows"].to(device)[:, None], job["variants"].to(device)] = torch.cat(pieces).to(device)
            first, largest = beyond, max(largest, peak)
    return patched, largest


def suffix_job(rows: Int[Tensor, " row"], variants: Int[Tensor, " variant"], start: int, length: int) -> Job:
    """Lanes of the same variants for every prompt."""
    laid = fill_lanes(variants, *lanes_and_pack(len(variants), length))
    return {
        "rows": rows.repeat_interleave(len(laid)),
        "variants": laid.repeat(len(rows), 1),
        "start": start,
        "length": length,
    }


def rerun_suffix(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    passes: Passes,
    received: dict[int, Tensor],
    receivers: Receivers,
    job: Job,
    lanes: Int[Tensor, " lane"],
) -> Float[Tensor, "lane pack"]:
    """One pass over some lanes, each of which the layout takes for a prompt of its own."""
    start, device = job["start"], clean["tokens"].device
    rows, variants = job["rows"][lanes].to(device), job["variants"][lanes].to(device)
    slots = clean["position"][rows, None] + torch.arange(job["length"], device=device)
    stream = passes["clean"]["streams"][start]
    layout = lay_out(anatomy, clean, rows, slots[:, None], variants.shape[1], stream.dtype)
    firsts = torch.arange(0, job["length"] * variants.shape[1], job["length"], device=device)[None]

    def receive(values: Tensor, layer: int) -> Tensor:
        columns = receiver_columns(anatomy, receivers, layer, values.device)
        index = (rows.to(received[layer].device)[:, None], variants.to(received[layer].device))
        replaced = values.clone()
        put(replaced, firsts, columns, received[layer][index].flatten(2))
        return replaced

    def outputs() -> dict[str, Tensor]:
        values = start_projections(model, anatomy, start, stream, layout)
        path = anatomy["projections"][receivers["component"]]
        return {**values, path: receive(values[path], start)}

    visits: dict[int, dict[str, Visit]] = {
        layer: {receivers["component"]: lambda values, layer=layer: receive(values, layer)}  # type: ignore[misc]
        for layer in received
        if layer > start
    }

    def answered(hidden: Tensor) -> Tensor:
        return answer_probability(unembed(model, anatomy, hidden), clean["answers"][rows])

    cache = prefix_cache(passes["clean"], layout, start)
    return rerun(model, anatomy, layout, cache, start, lambda: at_slots(stream, layout), visits, answered, outputs)


def start_projections(
    model: Any, anatomy: Anatomy, layer: int, stream: Float[Tensor, "batch token d_model"], layout: Layout
) -> dict[str, Float[Tensor, "lane slot _"]]:
    """Outputs of a layer's projections, by path, where the stream is the same in all variants: once a prompt."""
    prompts, prompt = torch.unique_consecutive(layout["rows"], return_inverse=True)
    one = torch.searchsorted(prompt, torch.arange(len(prompts), device=prompt.device))
    prompts, slots = prompts.to(stream.device), layout["slots"][one, 0, 0].to(stream.device)
    normed = through(model, anatomy, layer, "pre_attention_norm", stream[prompts[:, None], slots])
    prompt = prompt.to(normed.device)
    pack, paths = layout["shape"][2], anatomy["projections"]
    component = {paths[name]: name for name in ("v", "k", "q")}
    return {
        path: projection(model, anatomy, layer, component[path])(normed)[prompt].repeat(1, pack, 1)
        for path in dict.fromkeys(paths[name] for name in ("q", "k", "v"))
    }
