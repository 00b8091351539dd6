"""Mixing clean and counterfactual z under a mask, at the cost of what the mask can change (paper, section 5).

Replaced: z of a group's heads at its role, by `mask * own + (1 - mask) * counterfactual`. Recomputed: from the group's
first layer on, the tokens from the role to the last. Frozen: the tokens before the role, which cannot see it: their
keys and values are the clean run's. Several masks go through side by side, each a copy of the suffix over one prefix.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.interventions.evaluation import forward_inputs, full_cache
from entitrack.interventions.path_patching import read_source
from entitrack.interventions.sites import (
    Anatomy,
    finish_layer,
    head_columns,
    layer_at,
    part,
    position_ids,
    through,
    unembed,
)
from entitrack.interventions.suffix import PACKED_TOKENS, prefix_cache, suffix_masks, tile, use_mask

PASS = 3e8
"""What a pass through the model costs besides its tokens, in multiply-adds."""


def masked_answers(
    model: Any,
    anatomy: Anatomy,
    heads: list[list[int]],
    batch: dict[str, Any],
    masks: Float[Tensor, "mask head"],
    draws: list[int],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Answers under fixed masks.

    Args:
        model: The model.
        anatomy: Its anatomy.
        heads: The group's heads, in the order of the masks.
        batch: See `prepare`.
        masks: 1 keeps a head's own z, 0 takes the counterfactual's.
        draws: For each mask, the number of the draw of counterfactuals that it is about.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction` `[mask, batch]`, the most likely token; `target_logit` `[mask, batch]`, float32.
    """
    with torch.no_grad():
        prepared = prepare(model, anatomy, heads, batch, draws, chunk_tokens)
        return answers_under(model, anatomy, prepared, masks)


def prepare(
    model: Any, anatomy: Anatomy, heads: list[list[int]], batch: dict[str, Any], draws: list[int], chunk_tokens: int
) -> dict[str, Any]:
    """What stays the same for a batch while masks change: counterfactual z, and the clean run before the suffix.

    Args:
        model: The model.
        anatomy: Its anatomy.
        heads: The group's heads.
        batch: `clean`: `tokens` and `mask` `[batch, token]`, `position` of the group's role and `last` `[batch]`;
            `sources`: for each draw of counterfactuals `tokens`, `mask`, and the `position` where z is read;
            `targets` `[draw, batch]`, the token to be answered.
        draws: For each mask, the number of its draw.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `layers`: layer -> numbers of its heads in the group; `source`: layer -> z `[draw, batch, head, d_head]`;
        `pieces`: see `make_piece`; and the batch's `targets`.
    """
    clean = batch["clean"]
    layers = sorted({layer for layer, _ in heads})
    numbers = {layer: [n for n, (where, _) in enumerate(heads) if where == layer] for layer in layers}
    source: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for counterfactual in batch["sources"]:
            read = read_source(model, anatomy, counterfactual, layers)
            for layer in layers:
                source[layer].append(read[layer][:, [heads[n][1] for n in numbers[layer]]])
        with model.trace({**forward_inputs(clean), **full_cache(model, anatomy, clean["tokens"])}):
            stream = layer_at(model, anatomy, layers[0]).input
            cache = model.output.past_key_values
        jobs = suffix_jobs(anatomy, clean, len(draws), chunk_tokens)
        pieces = [make_piece(anatomy, clean, stream, cache, job, layers[0]) for job in jobs]
    return {
        "layers": numbers,
        "heads": heads,
        "source": {layer: torch.stack(found) for layer, found in source.items()},
        "draws": draws,
        "targets": batch["targets"],
        "pieces": pieces,
        "cache_type": type(cache),
    }


def suffix_jobs(anatomy: Anatomy, clean: dict[str, Tensor], n_masks: int, chunk_tokens: int) -> list[dict[str, Any]]:
    """Which prompts go through the model together, from how many tokens before the end on.

    Prompts of unlike suffixes go together, from the earliest role on, where recomputing some clean tokens costs less
    than another pass.

    Returns:
        Jobs of at most `chunk_tokens` tokens, each with `rows`, the `length` of the suffix, and how many masks stand
        side by side in a row (`pack`) of how many rows a prompt (`lanes`).
    """
    lengths = clean["last"] - clean["position"] + 1
    room = clean["last"] - clean["mask"].argmax(1) + 1
    worth = PASS / (12 * anatomy["n_layers"] * (anatomy["n_heads"] * anatomy["d_head"]) ** 2)
    groups: list[tuple[int, list[Tensor]]] = []
    for length in sorted(lengths.unique().tolist(), reverse=True):
        rows = (lengths == length).nonzero().flatten()
        longest = groups[-1][0] if groups else 0
        wasted = (longest - length) * len(rows) * n_masks
        if groups and wasted <= worth and int(room[rows].min()) >= longest:
            groups[-1][1].append(rows)
        else:
            groups.append((length, [rows]))
    jobs = []
    for length, parts in groups:
        pack = max(1, min(n_masks, PACKED_TOKENS // length))
        lanes = -(-n_masks // pack)
        for chunk in torch.cat(parts).split(max(1, chunk_tokens // (length * pack * lanes))):
            jobs.append({"rows": chunk, "length": length, "pack": pack, "lanes": lanes})
    return jobs


def make_piece(
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    stream: Float[Tensor, "batch token d_model"],
    cache: Any,
    job: dict[str, Any],
    start: int,
) -> dict[str, Any]:
    """Arguments of the suffix's forward pass for some of the rows, without the cache that each pass fills anew.

    Returns:
        What `job` says; `offset` `[row]` of the role in the suffix; `inputs` of the model; `masks` by attention
        window; `prefix`: layer -> clean keys and values of the tokens before the suffix; `stream` at the start of layer
        `start` `[row * lane, pack * token, d_model]`.
    """
    rows, length, pack, lanes = (job[name] for name in ("rows", "length", "pack", "lanes"))
    first = clean["last"] - length + 1
    offset = (clean["position"] - first)[rows]
    clean = {**clean, "position": first}
    suffix = first[rows, None] + torch.arange(length, device=rows.device)
    positions = position_ids(clean["mask"])[rows].gather(1, suffix)
    prefix = prefix_cache(cache, clean, rows, start, lanes)
    here = stream[rows[:, None].to(stream.device), suffix.to(stream.device)]
    return {
        **job,
        "offset": offset,
        "inputs": {
            "input_ids": tile(clean["tokens"][rows].gather(1, suffix), lanes, pack),
            "position_ids": tile(positions, lanes, pack),
        },
        "masks": suffix_masks(anatomy, clean, job, positions, stream.dtype, lanes),
        "prefix": {
            layer: (prefix.layers[layer].keys, prefix.layers[layer].values)
            for layer in range(start, anatomy["n_layers"])
        },
        "stream": tile(here, lanes, pack),
    }


def answers_under(
    model: Any, anatomy: Anatomy, prepared: dict[str, Any], masks: Float[Tensor, "mask head"]
) -> dict[str, Tensor]:
    """See `masked_answers`, for a batch that is prepared."""
    targets = prepared["targets"]
    shape = (len(masks), targets.shape[1])
    prediction = torch.empty(shape, dtype=torch.long, device=targets.device)
    logit = torch.empty(shape, device=targets.device)
    for piece in prepared["pieces"]:
        rows = piece["rows"]
        logits = piece_logits(model, anatomy, prepared, piece, masks)
        prediction[:, rows] = logits.argmax(-1).T.to(targets.device)
        logit[:, rows] = target_logits(prepared, piece, logits).T.to(targets.device)
    return {"prediction": prediction, "target_logit": logit}


def target_logits(
    prepared: dict[str, Any], piece: dict[str, Any], logits: Float[Tensor, "row mask vocab"]
) -> Float[Tensor, "row mask"]:
    """The logit of each mask's own target."""
    targets: Int[Tensor, "row mask"] = prepared["targets"][prepared["draws"]][:, piece["rows"]].T
    return logits.gather(-1, targets[..., None].to(logits.device)).squeeze(-1)


def piece_logits(
    model: Any,
    anatomy: Anatomy,
    prepared: dict[str, Any],
    piece: dict[str, Any],
    masks: Float[Tensor, "mask head"],
) -> Float[Tensor, "row mask vocab"]:
    """Logits at the last token under every mask; gradient flows to the masks.

    Layers below the group's first are skipped: nothing has changed there. In the last layer only the last token goes
    on.
    """
    rows, length, pack, lanes = (piece[name] for name in ("rows", "length", "pack", "lanes"))
    start, top = min(prepared["layers"]), anatomy["n_layers"] - 1
    returned = (piece["stream"], None) if anatomy["returns_tuple"] else piece["stream"]
    cache = prepared["cache_type"]()
    for layer, (keys, values) in piece["prefix"].items():
        cache.update(keys, values, layer)
    ends = torch.arange(length - 1, length * pack, length, device=piece["stream"].device)
    windows = anatomy["windows"]
    inputs = {**piece["inputs"], "attention_mask": piece["masks"][windows[top]], "past_key_values": cache}
    with model.trace(inputs, use_cache=True) as tracer:
        for layer in range(start):
            layer_at(model, anatomy, layer).skip(returned)
        for layer in range(start, top + 1):
            if windows[layer] != windows[top]:
                use_mask(model, anatomy, layer, piece["masks"][windows[layer]])
            if layer == top:
                stream_top = layer_at(model, anatomy, top).input
            elif layer in prepared["layers"]:
                o_proj = part(model, anatomy, layer, "o_proj")
                o_proj.input = mix(anatomy, o_proj.input, prepared, piece, masks, layer)
        z = part(model, anatomy, top, "o_proj").input
        if top in prepared["layers"]:
            z = mix(anatomy, z, prepared, piece, masks, top)
        attention = through(model, anatomy, top, "o_proj", z[:, ends])
        attention = through(model, anatomy, top, "post_attention_norm", attention)
        hidden = finish_layer(model, anatomy, top, stream_top[:, ends], attention)
        hidden = hidden.reshape(len(rows), lanes * pack, -1)[:, : len(masks)]
        logits = unembed(model, anatomy, hidden)
        tracer.stop()
    return logits


def mix(
    anatomy: Anatomy,
    z: Float[Tensor, "lane token width"],
    prepared: dict[str, Any],
    piece: dict[str, Any],
    masks: Float[Tensor, "mask head"],
    layer: int,
) -> Float[Tensor, "lane token width"]:
    """`o_proj`'s input with the layer's heads mixed at the role, once for every mask."""
    rows, length, pack, lanes = (piece[name] for name in ("rows", "length", "pack", "lanes"))
    numbers = prepared["layers"][layer]
    columns = head_columns(anatomy, "z", z.device)[[prepared["heads"][n][1] for n in numbers]]
    places = piece["offset"][:, None].to(z.device) + torch.arange(0, length * pack, length, device=z.device)
    places = places.repeat_interleave(lanes, 0)
    lane = torch.arange(len(z), device=z.device)[:, None]
    own = z[lane, places][..., columns].reshape(len(rows), lanes * pack, *columns.shape)
    order = torch.arange(lanes * pack).clamp(max=len(masks) - 1)
    draws = torch.tensor(prepared["draws"])[order]
    source = prepared["source"][layer]
    other = source[draws.to(source.device)[None], rows.to(source.device)[:, None]].to(z.device)
    keep = masks[order.to(masks.device)][:, numbers].to(z.device)[None, :, :, None]
    mixed = (keep * own + (1 - keep) * other).to(z.dtype).reshape(len(z), pack, -1)
    replaced = z.clone()
    replaced[lane[..., None], places[..., None], columns.flatten()] = mixed
    return replaced
