"""What stays the same while masks over a group's heads change: counterfactual z, and the clean run before the suffix.

Prompts go through the model again from their earliest patched position on, and from behind the attention of the first
patched layer on. What comes before cannot see a change, so its keys, values, z and stream are read once.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.evaluation import forward_inputs, full_cache
from entitrack.engine.sites import Anatomy, at, layer_at, part, position_ids, split_heads
from entitrack.engine.suffix import lanes_and_pack, prefix_entries, suffix_masks

PASS = 3e8
"""What a pass through the model costs besides its tokens, in multiply-adds."""

PASS_TOKENS = 24
"""What reading the weights costs, once a pass, in tokens."""


def prepare(
    model: Any, anatomy: Anatomy, groups: list[dict[str, Any]], batch: dict[str, Any], draws: list[int], chunk: int
) -> list[dict[str, Any]]:
    """Run a batch's clean prompts once and every counterfactual once.

    Args:
        model: The model.
        anatomy: Its anatomy.
        groups: Each `{"heads": [[layer, head], ...], "positions" [head, batch], "source_positions" [draw, head,
            batch]}`: where each head's z is replaced in the clean prompts, and read in each draw of counterfactuals.
        batch: `clean`: `tokens` and `mask` `[batch, token]`, `last` `[batch]`; `sources`: `tokens` and `mask` of each
            draw of counterfactuals; `targets` `[draw, batch]`, the token to be answered.
        draws: For each mask that is to be used, the number of its draw.
        chunk: At most this many tokens go through the model at once.

    Returns:
        For each group `heads`, `draws` and `targets`; `layers`: layer -> numbers of its heads in the group; `source`:
        layer -> z `[draw, batch, head, d_head]`; `offset` and `pieces`: see `make_piece`; `cache_type`; and `own`
        `[batch]`, the unpatched model's most likely tokens.
    """
    clean = batch["clean"]
    numbers = [layer_numbers(group["heads"]) for group in groups]
    with torch.no_grad():
        read = read_sources(model, anatomy, groups, numbers, batch["sources"])
        starts = {min(layers) for layers in numbers}
        streams, z = {}, {}
        with model.trace({**forward_inputs(clean), **full_cache(model, anatomy, clean["tokens"])}):
            for layer in range(anatomy["n_layers"]):
                if {layer, layer - 1} & starts:
                    streams[layer] = layer_at(model, anatomy, layer).input
                if layer in starts:
                    z[layer] = part(model, anatomy, layer, "o_proj").input
            own = at(model.output.logits, clean["last"]).argmax(-1)
            cache = model.output.past_key_values
        prepared = []
        for group, layers, source in zip(groups, numbers, read, strict=True):
            found = {"heads": group["heads"], "draws": draws, "targets": batch["targets"], "own": own}
            found |= {"layers": layers, "source": source, "cache_type": type(cache)}
            jobs = suffix_jobs(anatomy, clean, group["positions"], len(draws), chunk)
            start = min(layers)
            kept = {"stream": streams[start], "z": z[start], "after": streams.get(start + 1, streams[start])}
            found["pieces"] = [make_piece(anatomy, clean, group["positions"], kept, cache, job, layers) for job in jobs]
            prepared.append(found)
    return prepared


def layer_numbers(heads: list[list[int]]) -> dict[int, list[int]]:
    """Layer -> numbers of its heads, layers in ascending order."""
    layers = sorted({layer for layer, _ in heads})
    return {layer: [number for number, (where, _) in enumerate(heads) if where == layer] for layer in layers}


def read_sources(
    model: Any,
    anatomy: Anatomy,
    groups: list[dict[str, Any]],
    numbers: list[dict[int, list[int]]],
    sources: list[dict[str, Tensor]],
) -> list[dict[int, Float[Tensor, "draw batch head d_head"]]]:
    """Counterfactual z of every group's heads, layer by layer: one pass a draw, up to the last of these layers."""
    found: list[dict[int, list[Tensor]]] = [{layer: [] for layer in layers} for layers in numbers]
    wanted = sorted({layer for layers in numbers for layer in layers})
    for draw, source in enumerate(sources):
        read: dict[int, Tensor] = {}
        with model.trace(forward_inputs(source), use_cache=False) as tracer:
            for layer in wanted:
                read[layer] = split_heads(anatomy, "z", part(model, anatomy, layer, "o_proj").input)
            tracer.stop()
        rows = torch.arange(source["tokens"].shape[0], device=source["tokens"].device)[:, None]
        for group, layers, kept in zip(groups, numbers, found, strict=True):
            for layer, chosen in layers.items():
                places = group["source_positions"][draw][chosen].T
                heads = torch.tensor([group["heads"][number][1] for number in chosen], device=rows.device)
                device = read[layer].device
                kept[layer].append(read[layer][rows.to(device), places.to(device), heads[None].to(device)])
    return [{layer: torch.stack(values) for layer, values in kept.items()} for kept in found]


def suffix_jobs(
    anatomy: Anatomy, clean: dict[str, Tensor], positions: Int[Tensor, "head batch"], n_masks: int, chunk: int
) -> list[dict[str, Any]]:
    """Which prompts go through the model together, from how many tokens before the end on.

    Prompts of unlike suffixes go together, from the earliest position on, where recomputing some clean tokens costs
    less than another pass.

    Returns:
        Jobs of at most `chunk` tokens, each with `rows`, the `length` of the suffix, and how many masks stand side by
        side in a row (`pack`) of how many rows a prompt (`lanes`).
    """
    lengths = clean["last"] - positions.min(0).values + 1
    room = clean["last"] - clean["mask"].argmax(1) + 1
    worth = PASS_TOKENS + PASS / (12 * anatomy["n_layers"] * (anatomy["n_heads"] * anatomy["d_head"]) ** 2)
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
        lanes, pack = lanes_and_pack(n_masks, length)
        for rows in torch.cat(parts).split(max(1, chunk // (length * pack * lanes))):
            jobs.append({"rows": rows, "length": length, "pack": pack, "lanes": lanes})
    return jobs


def make_piece(
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    positions: Int[Tensor, "head batch"],
    kept: dict[str, Float[Tensor, "batch token width"]],
    cache: Any,
    job: dict[str, Any],
    layers: dict[int, list[int]],
) -> dict[str, Any]:
    """Arguments of the suffix's forward pass for some of the rows, without the cache that each pass fills anew.

    Args:
        anatomy: Its anatomy.
        clean: The clean prompts.
        positions: Where each head is patched.
        kept: Of the clean run: the start layer's input, `stream`, the input of its `o_proj`, `z`, and the next layer's
            input, `after`.
        cache: The clean keys and values.
        job: See `suffix_jobs`.
        layers: Layer -> numbers of its heads; the first is the start layer.

    Returns:
        What `job` says; `offset` `[lane, head]` of each head's position in the suffix; `inputs` of the model; `masks`
        by attention window; `prefix`: layer -> clean keys and values of the tokens before the suffix, above the start
        layer; what `kept` has, over the suffixes, `[lane, pack * token, width]`; and `places` `[lane, place]`, where
        the start layer's end is to be computed.
    """
    length, pack, start = job["length"], job["pack"], min(layers)
    rows = job["rows"].repeat_interleave(job["lanes"])
    first = clean["last"] - length + 1
    begun = {**clean, "position": first}
    suffix = first[rows, None] + torch.arange(length, device=rows.device)
    ids = position_ids(clean["mask"])[rows].gather(1, suffix)
    offset = (positions - first)[:, rows].T
    places = offset[:, layers[start]].unique(dim=1)
    if start == anatomy["n_layers"] - 1:
        places = torch.cat([places, torch.full_like(places[:, :1], length - 1)], 1)
    begins = torch.arange(0, length * pack, length, device=places.device)
    return {
        **job,
        "offset": offset,
        "places": (places[:, None] + begins[:, None]).flatten(1),
        "inputs": {
            "input_ids": clean["tokens"][rows].gather(1, suffix).repeat(1, pack),
            "position_ids": ids.repeat(1, pack),
        },
        "masks": suffix_masks(anatomy, begun, rows, ids, pack, kept["stream"].dtype),
        "prefix": prefix_entries(cache, begun, rows, start + 1),
        **{
            name: values[rows[:, None].to(values.device), suffix.to(values.device)].repeat(1, pack, 1)
            for name, values in kept.items()
        },
    }
