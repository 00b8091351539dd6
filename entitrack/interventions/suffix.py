"""Rerunning the end of a prompt for many variants at once, over the clean keys and values of what comes before.

Used where the receivers of path patching are replaced. Replaced: the receivers at the first token of the suffix.
Recomputed: everything after them. Frozen: nothing but the tokens before the suffix, which cannot see it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.interventions.evaluation import answer_probability
from entitrack.interventions.sites import (
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

PACKED_TOKENS = 96
"""Variants are packed side by side in one row up to this many tokens; longer suffixes become rows of a batch."""


def rerun_suffixes(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    state: dict[str, Any],
    cache: Any,
    swept: dict[str, Any],
    receivers: dict[str, Any],
    chunk_tokens: int,
) -> Float[Tensor, "batch variant"]:
    """Probability of the right answer for every variant, its receivers replaced from the sender's position on.

    A sender's variant starts at the first receiver above it; prompts whose suffixes are equally long go together.
    """
    received = swept["received"]
    layers = sorted(received)
    lengths = clean["last"] - clean["position"] + 1
    n_variants = received[layers[-1]].shape[1]
    patched = torch.empty(len(lengths), n_variants, device=received[layers[-1]].device)
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        for job in suffix_jobs(received, rows, length, chunk_tokens):
            job["heads"] = {layer: [h for where, h in receivers["heads"] if where == layer] for layer in layers}
            job["component"] = receivers["component"]
            index = job["rows"].to(patched.device)
            patched[index[:, None], job["variants"].to(patched.device)[None]] = rerun(
                model, anatomy, clean, state["streams"], cache, received, job
            )
    return patched


def suffix_jobs(received: dict[int, Tensor], rows: Tensor, length: int, chunk_tokens: int) -> list[dict[str, Any]]:
    """Cut a rerun into pieces of at most `chunk_tokens` tokens: which rows, which variants, from which layer on."""
    jobs = []
    first = 0
    for start in sorted(received):
        last = received[start].shape[1]
        pack = max(1, min(last - first, PACKED_TOKENS // length))
        most_variants = max(pack, chunk_tokens // length // pack * pack)
        for low in range(first, last, most_variants):
            variants = torch.arange(low, min(low + most_variants, last))
            most_rows = max(1, chunk_tokens // (length * len(variants)))
            for chunk in rows.split(most_rows):
                jobs.append({"rows": chunk, "variants": variants, "start": start, "length": length, "pack": pack})
        first = last
    return jobs


def rerun(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    streams: dict[int, Tensor],
    cache: Any,
    received: dict[int, Tensor],
    job: dict[str, Any],
) -> Float[Tensor, "row variant"]:
    """One pass over the suffix: `pack` variants side by side in a row, `lanes` such rows for each prompt.

    Layers below the start are skipped: nothing has changed there. In the start layer the stream is still clean, so
    its projections are computed once per prompt. In the last layer only the last token goes on.
    """
    rows, variants, start, length, pack = (job[name] for name in ("rows", "variants", "start", "length", "pack"))
    lanes = -(-len(variants) // pack)
    padded = torch.cat([variants, variants[-1:].expand(lanes * pack - len(variants))])
    suffix = clean["position"][rows, None] + torch.arange(length, device=clean["position"].device)
    positions = position_ids(clean["mask"])[rows].gather(1, suffix)
    inputs = {
        "input_ids": tile(clean["tokens"][rows].gather(1, suffix), lanes, pack),
        "position_ids": tile(positions, lanes, pack),
        "past_key_values": prefix_cache(cache, clean, rows, start, lanes),
    }
    top = anatomy["n_layers"] - 1
    stream = streams[start][rows[:, None].to(streams[start].device), suffix.to(streams[start].device)]
    masks = suffix_masks(anatomy, clean, job, positions, streams[start].dtype, lanes)
    inputs["attention_mask"] = masks[anatomy["windows"][top]]
    with model.trace(inputs, use_cache=True) as tracer:
        for layer in range(start):
            skipped = tile(stream, lanes, pack)
            layer_at(model, anatomy, layer).skip((skipped, None) if anatomy["returns_tuple"] else skipped)
        for layer in range(start, top + 1):
            if anatomy["windows"][layer] != anatomy["windows"][top]:
                use_mask(model, anatomy, layer, masks[anatomy["windows"][layer]])
            if layer == top:
                stream_top = layer_at(model, anatomy, layer).input
            if layer == start:
                start_projections(model, anatomy, stream, received, job, padded, lanes)
            elif layer in received:
                replace_receivers(model, anatomy, layer, received, job, padded, lanes)
        ends = torch.arange(length - 1, length * pack, length)
        z = part(model, anatomy, top, "o_proj").input[:, ends]
        attention = through(model, anatomy, top, "o_proj", z)
        attention = through(model, anatomy, top, "post_attention_norm", attention)
        hidden = finish_layer(model, anatomy, top, stream_top[:, ends], attention)
        hidden = hidden.reshape(len(rows), lanes * pack, -1)[:, : len(variants)]
        probability = answer_probability(unembed(model, anatomy, hidden), clean["answers"][rows])
        tracer.stop()
    return probability


def tile(values: Tensor, lanes: int, pack: int) -> Tensor:
    """`[row, token, ...]` -> `[row * lane, pack * token, ...]`, the same in every lane and place of a pack."""
    repeated = values[:, None, None].expand(-1, lanes, pack, *values.shape[1:])
    return repeated.reshape(values.shape[0] * lanes, pack * values.shape[1], *values.shape[2:]).contiguous()


def start_projections(
    model: Any,
    anatomy: Anatomy,
    stream: Float[Tensor, "row token d_model"],
    received: dict[int, Tensor],
    job: dict[str, Any],
    variants: Tensor,
    lanes: int,
) -> None:
    """Replace the start layer's q, k and v by the clean ones, with the receivers' values put in."""
    start, pack = job["start"], job["pack"]
    normed = through(model, anatomy, start, "pre_attention_norm", stream)
    paths = anatomy["projections"]
    done = []
    for component in ("q", "k", "v"):
        if paths[component] in done:
            continue
        done.append(paths[component])
        module = projection(model, anatomy, start, component)
        values = tile(module(normed), lanes, pack)
        if paths[component] == paths[job["component"]]:
            values = put_receivers(anatomy, values, start, received, job, variants, lanes)
        module.skip(values)


def replace_receivers(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    received: dict[int, Tensor],
    job: dict[str, Any],
    variants: Tensor,
    lanes: int,
) -> None:
    """Put the receivers' values into a layer's own q, k or v."""
    module = projection(model, anatomy, layer, job["component"])
    module.output = put_receivers(anatomy, module.output, layer, received, job, variants, lanes)


def put_receivers(
    anatomy: Anatomy,
    values: Tensor,
    layer: int,
    received: dict[int, Tensor],
    job: dict[str, Any],
    variants: Tensor,
    lanes: int,
) -> Tensor:
    """A copy of `values` with each variant's receivers at the first token of its suffix."""
    columns = head_columns(anatomy, job["component"], values.device)[job["heads"][layer]].flatten()
    device = received[layer].device
    new = received[layer][job["rows"].to(device)[:, None], variants.to(device)[None]].flatten(2)
    firsts = torch.arange(0, job["length"] * job["pack"], job["length"], device=values.device)
    new = new.reshape(values.shape[0], job["pack"], -1).to(values)
    replaced = values.clone()
    replaced[:, firsts[:, None], columns[None]] = new
    return replaced


def prefix_cache(cache: Any, clean: dict[str, Tensor], rows: Tensor, start: int, lanes: int) -> Any:
    """Clean keys and values of the tokens before the suffix, once for each lane of a row."""
    prefix = type(cache)()
    end = int(clean["position"][rows].max())
    for layer in range(start, len(cache.layers)):
        entry = cache.layers[layer]
        index = rows.to(entry.keys.device)
        keys, values = (kept[index, :, :end].repeat_interleave(lanes, 0) for kept in (entry.keys, entry.values))
        prefix.update(keys, values, layer)
    return prefix


def suffix_masks(
    anatomy: Anatomy, clean: dict[str, Tensor], job: dict[str, Any], positions: Tensor, dtype: Any, lanes: int
) -> dict[int, Float[Tensor, "lane 1 query key"]]:
    """For each attention window the model has, which tokens of the prefix and of its own suffix a variant sees.

    Additive masks `[row * lane, 1, pack * token, prefix + pack * token]`, by window; 0 is no window.
    """
    rows, length, pack = job["rows"], job["length"], job["pack"]
    start_at = clean["position"][rows]
    end = int(start_at.max())
    slots = torch.arange(end, device=start_at.device)
    visible = (slots[None] < start_at[:, None]) & clean["mask"][rows, :end].bool()
    distance = positions[:, :, None] - position_ids(clean["mask"])[rows, None, :end]
    own = positions[:, :, None] - positions[:, None]
    same = torch.block_diag(*[torch.ones(length, length)] * pack).bool().to(start_at.device)
    masks = {}
    for window in set(anatomy["windows"]):
        reach = window or 1 << 30
        before = visible[:, None] & (distance < reach)
        within = (own >= 0) & (own < reach)
        seen = torch.cat([before.repeat(1, pack, 1), within.repeat(1, pack, pack) & same], 2)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        masks[window] = mask.repeat_interleave(lanes, 0)[:, None]
    return masks


def use_mask(model: Any, anatomy: Anatomy, layer: int, mask: Tensor) -> None:
    """Give one layer an attention mask of its own."""
    module = layer_at(model, anatomy, layer)
    positional, named = module.inputs
    module.inputs = (positional, {**named, "attention_mask": mask})
