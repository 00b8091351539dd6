"""Where variants of prompts stand in a forward pass, and what they see.

A variant goes over a few tokens of its prompt, at its *slots*: its end, or the tokens with a role. All other tokens
are there as keys and values of a run that was done, the *prefix*. Variants of one prompt stand side by side in rows of
the batch, *lanes*, so many in a row (*pack*), without seeing each other:

    one lane, pack 2, slots 5 and 7:         keys 0 to 6 of the prefix | 5 7   5 7
                        first variant, at 5       0 to 4               | x
                        first variant, at 7       0 to 4, 6            | x x
                        second variant, at 5      0 to 4               |       x
                        second variant, at 7      0 to 4, 6            |       x x
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import position_ids
from entitrack.engine.caches import Run, filled_cache

PACKED_TOKENS = 64
"""Variants are packed side by side in one row up to this many tokens."""

PACKED_ELSEWHERE = 192
"""The same where every row has its whole prompt beside them, which crosses to another process with them."""

EVERYTHING = 1 << 30
"""The reach of a layer without a window."""


class Layout(TypedDict):
    """Where variants stand. Flattened, `lane` counts the lanes of all prompts and `token` the slots of all packs."""

    shape: tuple[int, int, int, int]
    """(row, lane, pack, place): prompts, lanes of each, variants in a lane, slots of a variant."""
    variants: int
    """How many variants a prompt has; the last one is repeated to fill its last lane."""
    rows: Int[Tensor, " row"]
    """Which prompts."""
    slots: Int[Tensor, "row lane pack place"]
    """Token indices; one lane and pack where those of all variants are the same."""
    input_ids: Int[Tensor, "lane token"]
    position_ids: Int[Tensor, "lane token"]
    masks: dict[int, Float[Tensor, "lane 1 token key"]]
    """By attention window, 0 for none: 0 where a slot sees a key of prefix and slots, the least number elsewhere."""
    prefix: int
    """So many tokens of the prompts are in the prefix: those that any slot sees are among them."""


def lanes_and_pack(count: int, length: int, most: int = PACKED_TOKENS) -> tuple[int, int]:
    """How many lanes a number of variants takes, each of `length` tokens, and how many stand in a lane, evenly."""
    lanes = -(-count // max(1, most // length))
    return lanes, -(-count // lanes)


def packed_tokens(anatomy: Anatomy) -> int:
    """Up to how many tokens variants are packed side by side in a row."""
    return PACKED_ELSEWHERE if anatomy.get("elsewhere") else PACKED_TOKENS


def lay_out(
    anatomy: Anatomy,
    prompts: Any,
    rows: Int[Tensor, " row"],
    slots: Int[Tensor, "row variant place"],
    variants: int,
    dtype: torch.dtype,
    blocked: Int[Tensor, " row"] | None = None,
) -> Layout:
    """Lay variants out.

    Args:
        anatomy: The model's anatomy.
        prompts: All prompts: `tokens` and `mask`.
        rows: Which of them.
        slots: Token indices that variants go over, ascending; one entry on axis `variant` serves all.
        variants: How many variants a prompt has.
        dtype: Of the masks, which is the model's.
        blocked: A token that the first slot of every variant cannot see.
    """
    length = slots.shape[2]
    lanes, pack = lanes_and_pack(variants, length, packed_tokens(anatomy))
    shape = (len(rows), lanes, pack, length)
    shared = slots.shape[1] == 1
    slots = slots[:, None] if shared else fill_lanes(slots.transpose(0, 1), lanes, pack).movedim(2, 0)
    ids, mask = prompts["tokens"][rows], prompts["mask"][rows]
    flat = slots.flatten(1)

    def spread(values: Tensor) -> Tensor:
        return values.gather(1, flat).view(slots.shape).expand(shape).reshape(shape[0] * lanes, pack * length)

    before = prefix_seen(slots, mask.bool(), blocked)
    prefix = int((before.flatten(0, 3).any(0) * torch.arange(1, mask.shape[1] + 1, device=mask.device)).max())
    masks = {
        window: window_mask(slots, before[..., :prefix], shape, window or EVERYTHING, dtype)
        for window in set(anatomy["windows"])
    }
    return {
        "shape": shape,
        "variants": variants,
        "rows": rows,
        "slots": slots,
        "input_ids": spread(ids),
        "position_ids": spread(position_ids(mask)),
        "masks": masks,
        "prefix": prefix,
    }


def fill_lanes(values: Any, lanes: int, pack: int) -> Any:
    """Values by variant `[variant, ...]` by lane and pack `[lane, pack, ...]`: the last one fills the last lane."""
    return torch.cat([values, values[-1:].expand(lanes * pack - len(values), *values.shape[1:])]).unflatten(
        0, (lanes, pack)
    )


def prefix_seen(
    slots: Int[Tensor, "row lane pack place"],
    real: Bool[Tensor, "row token"],
    blocked: Int[Tensor, " row"] | None,
) -> Bool[Tensor, "row lane pack place token"]:
    """Which tokens of the prompt a slot sees as they were: those before it that its variant does not go over.

    Padding is not seen (`real` is False there), nor is `blocked` from the first slot.
    """
    index = torch.arange(real.shape[1], device=real.device)
    covered = (slots[..., None] == index).any(3, keepdim=True)
    seen = (index < slots[..., None]) & ~covered & real[:, None, None, None]
    if blocked is not None:
        seen[:, :, :, 0] &= index != blocked[:, None, None, None]
    return seen


def window_mask(
    slots: Int[Tensor, "row lane pack place"],
    before: Bool[Tensor, "row lane pack place key"],
    shape: tuple[int, int, int, int],
    reach: int,
    dtype: torch.dtype,
) -> Float[Tensor, "lanes 1 token seen"]:
    """The additive mask of layers whose tokens see so many back, themselves included.

    Keys are the prefix, then the slots of all variants in the lane. Distances are those of token indices: what stands
    between a slot and a token that it sees is no padding.
    """
    rows, lanes, pack, length = shape
    index = torch.arange(before.shape[4], device=slots.device)
    prefix = before & (slots[..., None] - index < reach)
    distance = slots[..., :, None] - slots[..., None, :]
    within = (distance >= 0) & (distance < reach)
    same = torch.eye(pack, dtype=torch.bool, device=slots.device)[:, None, :, None]
    packed = (within[:, :, :, :, None] & same).flatten(4, 5)
    seen = torch.cat([prefix.expand(*packed.shape[:4], -1), packed], 4).flatten(2, 3)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
    return mask.expand(-1, lanes, -1, -1).reshape(rows * lanes, 1, pack * length, -1)


def prefix_entries(run: Run, layout: Layout, first: int) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Keys and values of the prefix, from layer `first` on, once for each lane; without a copy where that goes."""
    rows, lanes, end = layout["rows"], layout["shape"][1], layout["prefix"]
    keys: dict[int, Tensor] = {}
    values: dict[int, Tensor] = {}
    every = torch.arange(len(run["keys"][first]), device=rows.device) if first < len(run["keys"]) else rows
    as_they_are = lanes == 1 and torch.equal(rows, every)
    for layer in range(first, len(run["keys"])):
        index: Any = slice(None)
        if not as_they_are:
            index = rows.to(run["keys"][layer].device).repeat_interleave(lanes)
        keys[layer] = run["keys"][layer][index, :, :end]
        values[layer] = run["values"][layer][index, :, :end]
    return keys, values


def prefix_cache(run: Run, layout: Layout, first: int) -> Any:
    """A cache that holds the prefix, from layer `first` on."""
    return filled_cache(run["cache"], *prefix_entries(run, layout, first))


def at_slots(values: Float[Tensor, "batch token width"], layout: Layout) -> Float[Tensor, "lane slot width"]:
    """Values of whole prompts at the slots."""
    slots = layout["slots"].to(values.device)
    found = values[layout["rows"].to(values.device)[:, None, None, None], slots]
    # What is indexed out of an expanded view would keep its order in memory, which products of matrices depend on.
    return flatten(found.expand(*layout["shape"], -1)).contiguous()


def flatten(values: Float[Tensor, "row lane pack place width"]) -> Float[Tensor, "row*lane pack*place width"]:
    """As the model takes them."""
    return values.flatten(2, 3).flatten(0, 1)
