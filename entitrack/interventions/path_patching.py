"""Path patching, exactly, at the cost of one-token MLPs and a rerun of the suffix (paper, section 4.1).

Frozen: every head's z from the sender's position to the last, except the sender's own. Recomputed: the MLPs.
Replaced: the receivers, by the value they have in that run. Because attention is frozen, what a sender changes
travels through the MLPs at its own position alone, so all senders go through the model as one sweep of one-token
MLPs. What the changed receivers do is then found by rerunning only the tokens from that position on, over the
clean keys and values of the tokens before it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.interventions.sites import (
    Anatomy,
    at,
    find,
    finish_layer,
    head_columns,
    layer_at,
    part,
    position_ids,
    projection,
    split_heads,
    through,
    unembed,
)

PACKED_TOKENS = 96
"""Variants are packed side by side in one row up to this many tokens; longer suffixes become rows of a batch."""


def path_effects(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    source: dict[str, Tensor],
    senders: list[list[int]],
    receivers: dict[str, Any],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Effect of every sender on the probability of the right answer, through the given receivers.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: `tokens` and `mask` `[batch, token]`, `position` of senders and receivers, `last`, `answers` `[batch]`.
        source: The counterfactual prompts: `tokens`, `mask`, and `position` where z is read, `[batch]` or, when
            every head reads at a place of its own, `[layer, head, batch]`.
        senders: Heads to score, for each layer.
        receivers: `{"component": "logits"}`, or `{"component": "q" | "k" | "v", "heads": [[layer, head], ...]}`; heads of
            `k` and `v` are those that keys and values have (KV groups).
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `effect` `[batch, layer, head]`: (p_patched - p_clean) / p_clean, 0 where no path leads from a sender and for heads
        that are not senders; `null` `[batch]`: the same for a sender whose z is left alone, which is the
        arithmetic's own noise; `probability` `[batch]`: p_clean.
    """
    heads_of = {layer: heads for layer, heads in enumerate(senders) if heads}
    by_logits = receivers["component"] == "logits"
    reading = sorted({layer for layer, _ in receivers.get("heads", [])})
    top = anatomy["n_layers"] if by_logits else max(reading)
    heads_of = {layer: heads for layer, heads in heads_of.items() if layer < top}
    source_z = read_source(model, anatomy, source, sorted(heads_of))
    with torch.no_grad():
        with model.trace(clean_inputs(clean), use_cache=not by_logits):
            state = read_clean(model, anatomy, clean["position"], top, reading)
            probability = answer_probability(at(model.output.logits, clean["last"]), clean["answers"])
            cache = model.output.past_key_values
            swept = sweep(model, anatomy, state, source_z, heads_of, receivers, top)
            if by_logits:
                patched = final_probabilities(model, anatomy, swept["stream"], clean["answers"], chunk_tokens)
        if not by_logits:
            patched = rerun_suffixes(model, anatomy, clean, state, cache, swept, receivers, chunk_tokens)
    change = patched / probability[:, None] - 1
    return {**scatter_effects(anatomy, change, heads_of), "probability": probability}


def clean_inputs(clean: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arguments of a plain forward pass."""
    mask = clean["mask"]
    return {"input_ids": clean["tokens"], "attention_mask": mask, "position_ids": position_ids(mask)}


def answer_probability(
    logits: Float[Tensor, "batch *variant vocab"], answers: Int[Tensor, "batch"]
) -> Float[Tensor, "batch *variant"]:
    """Probability of the right answer, in float32."""
    logits = logits.float()
    index = answers.to(logits.device).view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return (logits.gather(-1, index).squeeze(-1) - logits.logsumexp(-1)).exp()


def read_source(
    model: Any, anatomy: Anatomy, source: dict[str, Tensor], layers: list[int]
) -> dict[int, Float[Tensor, "batch head d_head"]]:
    """Counterfactual z of each sending layer, where the source says to read it."""
    end = int(source["position"].max()) + 1
    short = {"tokens": source["tokens"][:, :end], "mask": source["mask"][:, :end]}
    found = {}
    with torch.no_grad():
        with model.trace(clean_inputs(short), use_cache=False) as tracer:
            for layer in layers:
                z = split_heads(anatomy, "z", part(model, anatomy, layer, "o_proj").input)
                found[layer] = _read_source_heads(z, source["position"], layer)
            tracer.stop()
    return found


def _read_source_heads(z: Tensor, position: Tensor, layer: int) -> Tensor:
    """z at one position a row, or at one position a head and row."""
    if position.dim() == 1:
        return at(z, position)
    rows = torch.arange(z.shape[0], device=z.device)[:, None]
    heads = torch.arange(z.shape[2], device=z.device)[None]
    return z[rows, position[layer].T.to(z.device), heads]


def read_clean(
    model: Any, anatomy: Anatomy, position: Int[Tensor, "batch"], top: int, reading: list[int]
) -> dict[str, Any]:
    """What the sweep and the rerun need of the clean run, read as it passes.

    Returns:
        `resid_pre`, `z` and `attention` of layers below `top` at the position, each a list of `[batch, ...]`; `streams`:
        layer -> its whole input `[batch, token, d_model]`, for the layers in `reading`; `resid_top`: the stream at the
        start of layer `top`, at the position, if there is such a layer.
    """
    state: dict[str, Any] = {"resid_pre": [], "z": [], "attention": [], "streams": {}}
    for layer in range(min(top + 1, anatomy["n_layers"])):
        stream = layer_at(model, anatomy, layer).input
        if layer in reading:
            state["streams"][layer] = stream
        if layer == top:
            break
        o_proj = part(model, anatomy, layer, "o_proj")
        state["resid_pre"].append(at(stream, position))
        state["z"].append(at(o_proj.input, position))
        output = at(o_proj.output, position)
        state["attention"].append(through(model, anatomy, layer, "post_attention_norm", output))
    return state


def sweep(
    model: Any,
    anatomy: Anatomy,
    state: dict[str, Any],
    source_z: dict[int, Tensor],
    heads_of: dict[int, list[int]],
    receivers: dict[str, Any],
    top: int,
) -> dict[str, Any]:
    """Send every sender's change through the one-token MLPs of the layers after it.

    Variants are ordered: the null variant, then the senders layer by layer.

    Returns:
        `stream` `[batch, variant, d_model]` at the end of the last layer swept; `received`: layer -> values of its
        receivers `[batch, variant, receiver, d_head]`, for the variants whose senders are below it.
    """
    stream = state["resid_pre"][0][:, None]
    received = {}
    for layer in range(top + 1):
        wanted = [head for where, head in receivers.get("heads", []) if where == layer]
        if wanted:
            received[layer] = receive(model, anatomy, layer, stream, receivers["component"], wanted)
        if layer == top:
            break
        attention = state["attention"][layer][:, None].expand_as(stream)
        resid_pre = stream
        if layer in heads_of:
            z = sender_z(anatomy, state["z"][layer], source_z[layer], heads_of[layer])
            sent = through(model, anatomy, layer, "o_proj", z)
            sent = through(model, anatomy, layer, "post_attention_norm", sent)
            attention = torch.cat([attention, sent], 1)
            resid_pre = torch.cat([stream, state["resid_pre"][layer][:, None].expand_as(sent)], 1)
        stream = finish_layer(model, anatomy, layer, resid_pre, attention)
    return {"stream": stream, "received": received}


def sender_z(
    anatomy: Anatomy, clean_z: Float[Tensor, "batch width"], source_z: Float[Tensor, "batch head d_head"], heads: list[int]
) -> Float[Tensor, "batch sender width"]:
    """The clean input of `o_proj`, once for each sender, with that head's z from the source."""
    columns = head_columns(anatomy, "z", clean_z.device)[heads]
    z = clean_z[:, None].repeat(1, len(heads), 1)
    index = columns[None].expand(z.shape[0], -1, -1)
    return z.scatter(2, index, source_z[:, heads].to(z.dtype))


def receive(
    model: Any, anatomy: Anatomy, layer: int, stream: Float[Tensor, "batch variant d_model"], component: str, heads: list[int]
) -> Float[Tensor, "batch variant receiver d_head"]:
    """The receivers' q, k or v, given the stream at the start of their layer."""
    normed = through(model, anatomy, layer, "pre_attention_norm", stream)
    return split_heads(anatomy, component, projection(model, anatomy, layer, component)(normed))[:, :, heads]


def final_probabilities(
    model: Any, anatomy: Anatomy, stream: Float[Tensor, "batch variant d_model"], answers: Tensor, chunk_tokens: int
) -> Float[Tensor, "batch variant"]:
    """Probability of the right answer for streams at the end of the last layer, a few rows at a time."""
    rows = max(1, chunk_tokens // (4 * stream.shape[1]))
    chunks = zip(stream.split(rows), answers.split(rows))
    return torch.cat([answer_probability(unembed(model, anatomy, part), right) for part, right in chunks])


def scatter_effects(anatomy: Anatomy, change: Float[Tensor, "batch variant"], heads_of: dict[int, list[int]]) -> dict[str, Tensor]:
    """Effects by layer and head, and the null variant's, from effects by variant."""
    effect = change.new_zeros(change.shape[0], anatomy["n_layers"], anatomy["n_heads"])
    index = 1
    for layer, heads in heads_of.items():
        effect[:, layer, heads] = change[:, index : index + len(heads)]
        index += len(heads)
    return {"effect": effect, "null": change[:, 0].clone()}


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
        "attention_mask": suffix_mask(model, anatomy, clean, job, positions, streams[start].dtype, lanes),
        "past_key_values": prefix_cache(cache, clean, rows, start, lanes),
    }
    top = anatomy["n_layers"] - 1
    stream = streams[start][rows[:, None].to(streams[start].device), suffix.to(streams[start].device)]
    with model.trace(inputs, use_cache=True) as tracer:
        for layer in range(start):
            skipped = tile(stream, lanes, pack)
            layer_at(model, anatomy, layer).skip((skipped, None) if anatomy["returns_tuple"] else skipped)
        for layer in range(start, top + 1):
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
    return repeated.reshape(values.shape[0] * lanes, pack * values.shape[1], *values.shape[2:])


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
    model: Any, anatomy: Anatomy, layer: int, received: dict[int, Tensor], job: dict[str, Any], variants: Tensor, lanes: int
) -> None:
    """Put the receivers' values into a layer's own q, k or v."""
    module = projection(model, anatomy, layer, job["component"])
    module.output = put_receivers(anatomy, module.output, layer, received, job, variants, lanes)


def put_receivers(
    anatomy: Anatomy, values: Tensor, layer: int, received: dict[int, Tensor], job: dict[str, Any], variants: Tensor, lanes: int
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


def suffix_mask(
    model: Any, anatomy: Anatomy, clean: dict[str, Tensor], job: dict[str, Any], positions: Tensor, dtype: Any, lanes: int
) -> Any:
    """Additive mask `[row * lane, 1, pack * token, prefix + pack * token]`: a variant sees its prefix and itself.

    For models with sliding-window layers it is a dictionary of two, as those models take it.
    """
    rows, length, pack = job["rows"], job["length"], job["pack"]
    start_at = clean["position"][rows]
    end = int(start_at.max())
    slots = torch.arange(end, device=start_at.device)
    visible = (slots[None] < start_at[:, None]) & clean["mask"][rows, :end].bool()
    distance = positions[:, :, None] - position_ids(clean["mask"])[rows, None, :end]
    own = positions[:, :, None] - positions[:, None]
    same = torch.block_diag(*[torch.ones(length, length)] * pack).bool().to(start_at.device)

    def build(window: int) -> Tensor:
        reach = window or 1 << 30
        before = visible[:, None] & (distance < reach)
        within = (own >= 0) & (own < reach)
        seen = torch.cat([before.repeat(1, pack, 1), within.repeat(1, pack, pack) & same], 2)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        return mask.repeat_interleave(lanes, 0)[:, None].to(model.device)

    if not anatomy["mask_names"]:
        return build(anatomy["windows"][0])
    full, sliding = anatomy["mask_names"]
    return {full: build(0), sliding: build(max(anatomy["windows"]))}
