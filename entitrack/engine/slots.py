"""Variants of prompts behind the prompts themselves, in one run over both: no cache, no call outside of the trace.

A row has a prompt and then the slots of its variants (`layout`), which see of the prompt what a rerun sees of a cache:

    prompt of 8 tokens, then two variants at 5 and 7:    0 1 2 3 4 5 6 7 | 5 7   5 7
                            first variant, at 7 sees     0 1 2 3 4   6   | x x

The prompt's own tokens see no slot, and run as they would alone. Slots start with the embeddings, in layer 0. So a
variant costs its slots, and what crosses to another process is a prompt for each lane and these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import position_ids
from entitrack.engine.elsewhere import read_logits, unembedded
from entitrack.engine.layout import EVERYTHING, PACKED_ELSEWHERE, Layout, lanes_and_pack
from entitrack.engine.memory import ends_at_once, tokens_at_once
from entitrack.engine.rerun import use_mask
from entitrack.engine.sites import Visit, visit_layer


def run_behind(
    model: Any,
    anatomy: Anatomy,
    prompts: Any,
    layout: Layout,
    visits: Mapping[int, Mapping[str, Visit]],
    own: Mapping[int, Mapping[str, Visit]] | None = None,
    masks: Mapping[int, Float[Tensor, "lane 1 token key"]] | None = None,
) -> Float[Tensor, "row variant vocab"]:
    """Logits at the last slot of every variant.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: All prompts: `tokens` and `mask`.
        layout: Which of them, and where their variants stand.
        visits: Functions that a component is shown to at the slots, `[lane, slot, width]`.
        own: Functions that it is shown to at the prompts' own tokens, `[lane, token, width]`.
        masks: Masks of some layers.
    """
    rows, lanes, pack, length = layout["shape"]
    lane = layout["rows"].repeat_interleave(lanes)
    ids, mask = prompts["tokens"][lane], prompts["mask"][lane]
    width = ids.shape[1]
    by_window = {window: row_mask(mask, layout, window) for window in layout["masks"]}
    shared = by_window[anatomy["windows"][-1]]
    ends = torch.arange(width + length - 1, width + length * pack, length)
    kept = unembedded(model, anatomy, ends.tolist())
    inputs = {
        "input_ids": torch.cat([ids, layout["input_ids"]], 1),
        "position_ids": torch.cat([position_ids(mask), layout["position_ids"]], 1),
        "attention_mask": shared,
    }
    together = both_parts(width, own or {}, visits)
    with torch.no_grad():
        with model.trace({**inputs, **kept}, use_cache=False):
            for layer, window in enumerate(anatomy["windows"]):
                if masks is not None and layer in masks:
                    use_mask(model, anatomy, layer, masks[layer])
                elif window != anatomy["windows"][-1]:
                    use_mask(model, anatomy, layer, by_window[window])
                visit_layer(model, anatomy, layer, together.get(layer, {}))
            logits = read_logits(model, anatomy, ends.to(ids.device).expand(len(lane), -1), kept)
    return logits.reshape(rows, lanes * pack, -1)[:, : layout["variants"]].float()


def both_parts(
    width: int, own: Mapping[int, Mapping[str, Visit]], slots: Mapping[int, Mapping[str, Visit]]
) -> dict[int, dict[str, Visit]]:
    """Visits of whole rows, from those of the prompts' tokens and those of the slots."""

    def joined(layer: int, component: str) -> Visit:
        """What a component of a layer becomes, part by part."""
        first, second = own.get(layer, {}).get(component), slots.get(layer, {}).get(component)

        def visit(values: Tensor) -> Tensor | None:
            parts = [(values[:, :width], first), (values[:, width:], second)]
            became = [part if look is None else look(part) for part, look in parts]
            if all(new is None or new is part for new, (part, _) in zip(became, parts, strict=True)):
                return None
            return torch.cat([part if new is None else new for new, (part, _) in zip(became, parts, strict=True)], 1)

        return visit

    layers = own.keys() | slots.keys()
    return {
        layer: {name: joined(layer, name) for name in own.get(layer, {}).keys() | slots.get(layer, {}).keys()}
        for layer in layers
    }


def row_mask(mask: Int[Tensor, "lane token"], layout: Layout, window: int) -> Float[Tensor, "lane 1 row_token key"]:
    """The additive mask of whole rows: prompts see themselves, slots what the layout says.

    Where all lanes have one, it is an expanded view of it, of which one is sent.
    """
    slots = layout["masks"][window][:, 0]
    least = torch.finfo(slots.dtype).min
    width, index = mask.shape[1], torch.arange(mask.shape[1], device=mask.device)
    distance = index[:, None] - index
    seen = (distance >= 0) & (distance < (window or EVERYTHING)) & mask.bool()[:, None]
    prompt = torch.zeros(seen.shape, dtype=slots.dtype, device=mask.device).masked_fill(~seen, least)
    hidden = slots.new_full((len(slots), width, slots.shape[1]), least)
    prefix = layout["prefix"]
    unseen = slots.new_full((len(slots), slots.shape[1], width - prefix), least)
    below = torch.cat([slots[:, :, :prefix], unseen, slots[:, :, prefix:]], 2)
    whole = torch.cat([torch.cat([prompt, hidden], 2), below], 1)[:, None]
    if bool((whole == whole[:1]).all()):
        return whole[:1].clone().expand(len(whole), -1, -1, -1)
    return whole


def slot_passes(
    model: Any,
    anatomy: Anatomy,
    variants: Int[Tensor, " variant"],
    rows: Int[Tensor, " row"],
    length: int,
    width: int,
    gib: float | None,
) -> Iterator[tuple[Int[Tensor, " variant"], Int[Tensor, " row"]]]:
    """Which variants of which prompts go through together.

    Args:
        model: The model.
        anatomy: Its anatomy.
        variants: Numbers of variants.
        rows: Numbers of prompts.
        length: Slots of a variant.
        width: Tokens of a prompt.
        gib: Memory budget for what goes through at once, see `memory.budget_bytes`; one lane goes in any case.
    """
    pack = lanes_and_pack(len(variants), length, PACKED_ELSEWHERE)[1]
    lane = width + length * pack
    tokens, ends = tokens_at_once(anatomy, gib, rows.device, lane, 0), ends_at_once(model, anatomy, gib, rows.device)
    most = max(1, min(tokens // lane, ends // pack))
    for part in variants.split(pack * most):
        for some in rows.split(max(1, most // lanes_and_pack(len(part), length, PACKED_ELSEWHERE)[0])):
            yield part, some
