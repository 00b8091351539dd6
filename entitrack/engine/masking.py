"""Mixing clean and counterfactual z under a mask, at the cost of what the mask can change (paper, section 5).

Replaced: z of given heads at given positions, by `mask * own + (1 - mask) * counterfactual`. Recomputed: from the first
of these layers on, the tokens from the first of these positions to the last. Frozen: the tokens before, which cannot
see it: their keys and values are the clean run's. Several masks go through side by side, each a copy of the suffix over
one prefix. A mask of zeros is activation patching.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.engine.evaluation import filled_cache
from entitrack.engine.packing import finish_heads
from entitrack.engine.preparation import prepare
from entitrack.engine.sites import Anatomy, head_columns, layer_at, part, unembed
from entitrack.engine.suffix import use_mask


def masked_answers(
    model: Any,
    anatomy: Anatomy,
    groups: list[dict[str, Any]],
    batch: dict[str, Any],
    masks: list[Float[Tensor, "mask head"]],
    draws: list[int],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Answers under fixed masks.

    Args:
        model: The model.
        anatomy: Its anatomy.
        groups: See `prepare`.
        batch: See `prepare`.
        masks: For each group, its masks: 1 keeps a head's own z, 0 takes the counterfactual's.
        draws: For each mask, the number of the draw of counterfactuals that it is about.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction` `[group, mask, batch]`, the most likely token; `target_logit` `[group, mask, batch]`, float32;
        `own` `[batch]`, the unpatched model's most likely token.
    """
    with torch.no_grad():
        prepared = prepare(model, anatomy, groups, batch, draws, chunk_tokens)
        found = [answers_under(model, anatomy, entry, mask) for entry, mask in zip(prepared, masks, strict=True)]
    return {
        "prediction": torch.stack([entry["prediction"] for entry in found]),
        "target_logit": torch.stack([entry["target_logit"] for entry in found]),
        "own": prepared[0]["own"],
    }


def answers_under(
    model: Any, anatomy: Anatomy, prepared: dict[str, Any], masks: Float[Tensor, "mask head"]
) -> dict[str, Tensor]:
    """Answers of one group that is prepared; see `masked_answers`."""
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
    targets = prepared["targets"][prepared["draws"]][:, piece["rows"]].T
    return logits.gather(-1, targets[..., None].to(logits.device)).squeeze(-1)


def piece_logits(
    model: Any,
    anatomy: Anatomy,
    prepared: dict[str, Any],
    piece: dict[str, Any],
    masks: Float[Tensor, "mask head"],
) -> Float[Tensor, "row mask vocab"]:
    """Logits at the last token under every mask; gradient flows to the masks.

    Layers up to the group's first are skipped: nothing has changed there but what `start_stream` gives. In the last
    layer only the last token goes on.
    """
    rows, length, pack, lanes = (piece[name] for name in ("rows", "length", "pack", "lanes"))
    start, top = min(prepared["layers"]), anatomy["n_layers"] - 1
    ends = torch.arange(length - 1, length * pack, length, device=piece["stream"].device)
    stream = start_stream(model, anatomy, prepared, piece, masks)
    hidden = stream[:, ends]
    if start < top:
        cache = filled_cache(prepared["cache_type"], piece["prefix"])
        windows = anatomy["windows"]
        inputs = {**piece["inputs"], "attention_mask": piece["masks"][windows[top]], "past_key_values": cache}
        with model.trace(inputs, use_cache=True) as tracer:
            for layer in range(start + 1):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in range(start + 1, top + 1):
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
            hidden = finish_heads(model, anatomy, top, stream_top[:, ends], z[:, ends])
            tracer.stop()
    return unembed(model, anatomy, hidden.reshape(len(rows), lanes * pack, -1)[:, : len(masks)])


def start_stream(
    model: Any,
    anatomy: Anatomy,
    prepared: dict[str, Any],
    piece: dict[str, Any],
    masks: Float[Tensor, "mask head"],
) -> Float[Tensor, "lane token d_model"]:
    """The stream after the group's first layer: clean but where its heads are mixed; of the last layer, the end too."""
    start = min(prepared["layers"])
    z = mix(anatomy, piece["z"], prepared, piece, masks, start)
    lane, places = torch.arange(len(z), device=z.device)[:, None], piece["places"].to(z.device)
    changed = finish_heads(model, anatomy, start, piece["stream"][lane, places], z[lane, places])
    after = piece["after"].clone()
    after[lane, places] = changed
    return after


def mix(
    anatomy: Anatomy,
    z: Float[Tensor, "lane token width"],
    prepared: dict[str, Any],
    piece: dict[str, Any],
    masks: Float[Tensor, "mask head"],
    layer: int,
) -> Float[Tensor, "lane token width"]:
    """`o_proj`'s input with the layer's heads mixed at their positions, once for every mask."""
    rows, length, pack, lanes = (piece[name] for name in ("rows", "length", "pack", "lanes"))
    numbers = prepared["layers"][layer]
    columns = head_columns(anatomy, "z", z.device)[[prepared["heads"][number][1] for number in numbers]]
    begins = torch.arange(0, length * pack, length, device=z.device)
    places = piece["offset"][:, None, numbers].to(z.device) + begins[:, None]
    places = places[..., None]
    lane = torch.arange(len(z), device=z.device)[:, None, None, None]
    own = z[lane, places, columns].reshape(len(rows), lanes * pack, *columns.shape)
    order = torch.arange(lanes * pack).clamp(max=len(masks) - 1)
    draws = torch.tensor(prepared["draws"])[order]
    source = prepared["source"][layer]
    other = source[draws.to(source.device)[None], rows.to(source.device)[:, None]].to(z.device)
    keep = masks[order.to(masks.device)][:, numbers].to(z.device)[None, :, :, None]
    mixed = (keep * own + (1 - keep) * other).to(z.dtype).reshape(len(z), pack, *columns.shape)
    replaced = z.clone()
    replaced[lane, places, columns] = mixed
    return replaced
