"""Rerunning the end of a prompt for many variants at once, over the clean keys and values of what comes before.

Used where the receivers of path patching are replaced. Replaced: the receivers at the first token of the suffix.
Recomputed: everything after them. Frozen: nothing but the tokens before the suffix, which cannot see it.

The unit of work is one row of tokens: `pack` variants of one prompt side by side, which do not see each other. Short
suffixes are packed; a long one has a row of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.evaluation import answer_probability, filled_cache
from entitrack.engine.memory import in_pieces
from entitrack.engine.sites import (
    Anatomy,
    finish_layer,
    head_columns,
    layer_at,
    part,
    position_ids,
    projection,
    through,
    unembed,
)

PACKED_TOKENS = 64
"""Variants are packed side by side in one row up to this many tokens."""


def lanes_and_pack(count: int, length: int) -> tuple[int, int]:
    """How many rows a number of variants takes, each of `length` tokens, and how many stand in a row, evenly."""
    lanes = -(-count // max(1, PACKED_TOKENS // length))
    return lanes, -(-count // lanes)


def rerun_suffixes(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    passes: dict[str, Any],
    received: dict[int, Float[Tensor, "batch variant receiver d_head"]],
    receivers: dict[str, Any],
    gib: float,
    known: dict[str, float],
) -> tuple[Float[Tensor, "batch variant"], int]:
    """Probability of the right answer for every variant, its receivers replaced.

    A variant starts at the first receiver above its sender; prompts whose suffixes are equally long go together.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: `tokens`, `mask`, `position`, `last`, `answers`, see `path_patching.path_effects`.
        passes: The clean run, see `passes.both_passes`.
        received: Layer -> what its receivers become, for the variants that reach it.
        receivers: See `path_patching.path_effects`.
        gib: Memory budget, see `memory.in_pieces`.
        known: See there.

    Returns:
        The probabilities, and the bytes that the largest piece takes.
    """
    layers = sorted(received)
    device = received[layers[-1]].device
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
            job = suffix_job(receivers, received, rows, torch.arange(first, beyond), start, length)

            def work(units: Tensor, job: dict[str, Any] = job) -> Tensor:
                return rerun(model, anatomy, clean, passes, received, job, units)

            pieces, peak = in_pieces(len(job["rows"]), length * job["pack"], gib, device, work, known)
            patched[job["rows"].to(device)[:, None], job["variants"].to(device)] = torch.cat(pieces)
            first, largest = beyond, max(largest, peak)
    return patched, largest


def suffix_job(
    receivers: dict[str, Any], received: dict[int, Tensor], rows: Tensor, variants: Tensor, start: int, length: int
) -> dict[str, Any]:
    """The units of a rerun: `rows` `[unit]`, the prompt of each, and `variants` `[unit, pack]`."""
    lanes, pack = lanes_and_pack(len(variants), length)
    filled = torch.cat([variants, variants[-1:].expand(lanes * pack - len(variants))]).view(lanes, pack)
    heads = {layer: [head for where, head in receivers["heads"] if where == layer] for layer in received}
    return {
        "rows": rows.repeat_interleave(lanes),
        "variants": filled.repeat(len(rows), 1),
        "start": start,
        "length": length,
        "pack": pack,
        "component": receivers["component"],
        "heads": heads,
    }


def rerun(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    passes: dict[str, Any],
    received: dict[int, Tensor],
    job: dict[str, Any],
    units: Int[Tensor, " unit"],
) -> Float[Tensor, "unit pack"]:
    """One pass over the suffix.

    Layers below the start are skipped: nothing has changed there. In the start layer the stream is still clean, so
    its projections are computed once per prompt. In the last layer only the last token of a variant goes on.
    """
    start, length, pack = job["start"], job["length"], job["pack"]
    device = clean["tokens"].device
    rows, variants = job["rows"][units].to(device), job["variants"][units].to(device)
    suffix = clean["position"][rows, None] + torch.arange(length, device=device)
    positions = position_ids(clean["mask"])[rows].gather(1, suffix)
    top = anatomy["n_layers"] - 1
    stream = passes["streams"][start][rows[:, None], suffix]
    masks = suffix_masks(anatomy, clean, rows, positions, pack, stream.dtype)
    inputs = {
        "input_ids": clean["tokens"][rows].gather(1, suffix).repeat(1, pack),
        "position_ids": positions.repeat(1, pack),
        "past_key_values": filled_cache(type(passes["cache"]), prefix_entries(passes["cache"], clean, rows, start)),
        "attention_mask": masks[anatomy["windows"][top]],
    }
    with model.trace(inputs, use_cache=True) as tracer:
        skipped = stream.repeat(1, pack, 1)
        for layer in range(start):
            layer_at(model, anatomy, layer).skip(skipped)
        for layer in range(start, top + 1):
            if anatomy["windows"][layer] != anatomy["windows"][top]:
                use_mask(model, anatomy, layer, masks[anatomy["windows"][layer]])
            if layer == top:
                stream_top = layer_at(model, anatomy, layer).input
            if layer == start:
                start_projections(model, anatomy, passes["streams"][start], received, job, rows, suffix, variants)
            elif layer in received:
                module = projection(model, anatomy, layer, job["component"])
                module.output = put_receivers(anatomy, module.output, layer, received, job, rows, variants)
        ends = torch.arange(length - 1, length * pack, length, device=device)
        z = part(model, anatomy, top, "o_proj").input[:, ends]
        attention = through(model, anatomy, top, "o_proj", z)
        attention = through(model, anatomy, top, "post_attention_norm", attention)
        hidden = finish_layer(model, anatomy, top, stream_top[:, ends], attention)
        probability = answer_probability(unembed(model, anatomy, hidden), clean["answers"][rows])
        tracer.stop()
    return probability


def start_projections(
    model: Any,
    anatomy: Anatomy,
    stream: Float[Tensor, "batch token d_model"],
    received: dict[int, Tensor],
    job: dict[str, Any],
    rows: Int[Tensor, " unit"],
    suffix: Int[Tensor, "unit token"],
    variants: Int[Tensor, "unit pack"],
) -> None:
    """Replace the start layer's q, k and v by the clean ones, with the receivers' values put in."""
    start, paths = job["start"], anatomy["projections"]
    prompts, unit_prompt = torch.unique_consecutive(rows, return_inverse=True)
    firsts = torch.searchsorted(unit_prompt, torch.arange(len(prompts), device=rows.device))
    clean = stream[prompts[:, None], suffix[firsts]]
    normed = through(model, anatomy, start, "pre_attention_norm", clean)
    for path in dict.fromkeys(paths[component] for component in ("q", "k", "v")):
        component = next(name for name in ("q", "k", "v") if paths[name] == path)
        module = projection(model, anatomy, start, component)
        values = module(normed)[unit_prompt].repeat(1, job["pack"], 1)
        if path == paths[job["component"]]:
            values = put_receivers(anatomy, values, start, received, job, rows, variants)
        module.skip(values)


def put_receivers(
    anatomy: Anatomy,
    values: Float[Tensor, "unit token width"],
    layer: int,
    received: dict[int, Tensor],
    job: dict[str, Any],
    rows: Int[Tensor, " unit"],
    variants: Int[Tensor, "unit pack"],
) -> Float[Tensor, "unit token width"]:
    """A copy of `values` with each variant's receivers at the first token of its suffix."""
    columns = head_columns(anatomy, job["component"], values.device)[job["heads"][layer]].flatten()
    firsts = torch.arange(0, values.shape[1], job["length"], device=values.device)
    replaced = values.clone()
    replaced[:, firsts[:, None], columns[None]] = received[layer][rows[:, None], variants].flatten(2).to(values)
    return replaced


def prefix_entries(
    cache: Any, clean: dict[str, Tensor], rows: Int[Tensor, " unit"], start: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """Layer, from `start` on -> clean keys and values of the tokens before the suffix, for every unit."""
    end = int(clean["position"][rows].max())
    every = torch.arange(len(clean["position"]), device=rows.device)
    entries = {}
    for layer in range(start, len(cache.layers)):
        entry = cache.layers[layer]
        index = slice(None) if torch.equal(rows, every) else rows.to(entry.keys.device)
        entries[layer] = (entry.keys[index, :, :end], entry.values[index, :, :end])
    return entries


def suffix_masks(
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    rows: Int[Tensor, " unit"],
    positions: Int[Tensor, "unit token"],
    pack: int,
    dtype: torch.dtype,
) -> dict[int, Float[Tensor, "unit 1 query key"]]:
    """For each attention window the model has, which tokens of the prefix and of its own suffix a variant sees.

    Additive masks `[unit, 1, pack * token, prefix + pack * token]`, by window; 0 is no window.
    """
    start_at = clean["position"][rows]
    end, length = int(start_at.max()), positions.shape[1]
    slots = torch.arange(end, device=start_at.device)
    visible = (slots[None] < start_at[:, None]) & clean["mask"][rows, :end].bool()
    distance = positions[:, :, None] - position_ids(clean["mask"])[rows, None, :end]
    own = positions[:, :, None] - positions[:, None]
    place = torch.arange(pack, device=start_at.device).repeat_interleave(length)
    same = place[:, None] == place[None]
    masks = {}
    for window in set(anatomy["windows"]):
        reach = window or 1 << 30
        before = visible[:, None] & (distance < reach)
        within = (own >= 0) & (own < reach)
        seen = torch.cat([before.repeat(1, pack, 1), within.repeat(1, pack, pack) & same], 2)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        masks[window] = mask[:, None]
    return masks


def use_mask(model: Any, anatomy: Anatomy, layer: int, mask: Tensor) -> None:
    """Give one layer an attention mask of its own."""
    module = layer_at(model, anatomy, layer)
    positional, named = module.inputs
    module.inputs = (positional, {**named, "attention_mask": mask})
