"""Many short runs over a few tokens of a prompt, packed side by side over its keys and values.

A run goes over the tokens at its own `slots`; every other token of the prompt is there as keys and values only. Runs
do not see each other, and within a run a token sees what is before it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.evaluation import filled_cache
from entitrack.engine.sites import Anatomy, finish_layer, layer_at, part, through
from entitrack.engine.suffix import lanes_and_pack, use_mask


def pack_inputs(
    model: Any,
    anatomy: Anatomy,
    tokens: Int[Tensor, "row token"],
    slots: Int[Tensor, "row run place"],
    n_runs: int,
    state: dict[str, Any],
    rows: Int[Tensor, " row"],
    first_layer: int,
    blocked: Int[Tensor, " row"] | None = None,
) -> dict[str, Any]:
    """What a forward pass over packed runs takes.

    Args:
        model: The model.
        anatomy: Its anatomy.
        tokens: The prompts of the job.
        slots: Token indices that each run goes over, ascending; one entry on axis `run` serves all.
        n_runs: How many runs.
        state: `keys` and `values` by layer `[batch, kv_head, token, d_head]`, and `cache`, the class of the cache.
        rows: Which prompts of the state the job has.
        first_layer: The first layer that runs.
        blocked: A token that the first place of every run cannot see.

    Returns:
        `forward`, the arguments; `shape`, (row, lane, pack, place), where lanes are rows of the batch; `slots`, padded
        to lanes and packs unless one entry serves all; `masks`, see `slot_masks`.
    """
    length = slots.shape[2]
    lanes, pack = lanes_and_pack(n_runs, length)
    shape = (slots.shape[0], lanes, pack, length)
    if slots.shape[1] == 1:
        slots = slots[:, None]
    else:
        slots = torch.cat([slots, slots[:, -1:].expand(-1, lanes * pack - n_runs, -1)], 1).reshape(shape)
    whole = slots.expand(shape)
    flat = whole.reshape(shape[0] * lanes, pack * length)
    masks = slot_masks(anatomy, slots, shape, tokens.shape[1], state["keys"][0].dtype, blocked)
    forward = {
        "input_ids": tokens.repeat_interleave(lanes, 0).gather(1, flat),
        "position_ids": flat,
        "attention_mask": masks[anatomy["windows"][-1]],
        "past_key_values": prefix_cache(state, rows, first_layer, lanes),
    }
    return {"forward": forward, "shape": shape, "slots": slots, "masks": masks}


def mask_layer(model: Any, anatomy: Anatomy, layer: int, inputs: dict[str, Any]) -> None:
    """Give a layer the mask of its own window, where that is not the one which the whole pass has."""
    window = anatomy["windows"][layer]
    if window != anatomy["windows"][-1]:
        use_mask(model, anatomy, layer, inputs["masks"][window])


def prefix_cache(state: dict[str, Any], rows: Tensor, first_layer: int, lanes: int) -> Any:
    """Keys and values of whole prompts, once for each lane, from `first_layer` on."""
    entries = {}
    for layer in range(first_layer, len(state["keys"])):
        keys, values = (state[name][layer] for name in ("keys", "values"))
        index = rows.to(keys.device).repeat_interleave(lanes)
        entries[layer] = (keys[index], values[index])
    return filled_cache(state["cache"], entries)


def slot_masks(
    anatomy: Anatomy,
    slots: Int[Tensor, "row lane pack place"],
    shape: tuple[int, int, int, int],
    n_tokens: int,
    dtype: Any,
    blocked: Int[Tensor, " row"] | None = None,
) -> dict[int, Float[Tensor, "lane 1 query key"]]:
    """For each attention window the model has, what a place sees; 0 is no window.

    It sees the prompt's tokens before it that its run does not go over, and its run's own places up to itself; the
    first place does not see the token `blocked`. Additive masks `[row * lane, 1, pack * place, token + pack * place]`.
    Slots that serve all runs have one lane and pack, whatever the shape says.
    """
    rows, lanes, pack, length = shape
    index = torch.arange(n_tokens, device=slots.device)
    hidden = (slots[..., None] == index).any(3, keepdim=True)
    if blocked is not None:
        first = torch.arange(length, device=slots.device)[:, None] == 0
        hidden = hidden | ((index == blocked[:, None, None, None, None]) & first)
    distance = slots[..., None] - index
    own = slots[..., :, None] - slots[..., None, :]
    same = torch.eye(pack, dtype=torch.bool, device=slots.device)[:, None, :, None]
    masks = {}
    for window in set(anatomy["windows"]):
        reach = window or 1 << 30
        before = (distance > 0) & (distance < reach) & ~hidden
        within = (own >= 0) & (own < reach)
        packed = (within[:, :, :, :, None] & same).flatten(4, 5)
        seen = torch.cat([before.expand(*packed.shape[:4], -1), packed], 4).flatten(2, 3)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        mask = mask.masked_fill(~seen, torch.finfo(dtype).min)
        masks[window] = mask.expand(-1, lanes, -1, -1).reshape(rows * lanes, 1, pack * length, -1)
    return masks


def run_layers(
    model: Any, anatomy: Anatomy, fills: list[Tensor], inputs: dict[str, Any], run: dict[str, Any]
) -> dict[str, Any]:
    """The body of a trace: the packed runs, with z replaced where heads are not live, up to the end of the last layer.

    A run that starts behind the attention of layer `start` takes that layer's input and z as given; layers up to it
    are skipped. In the last layer only the last place goes on.

    Args:
        model: The model.
        anatomy: Its anatomy.
        fills: What ablated heads take, by layer `[batch or 1, token, width]`.
        inputs: See `pack_inputs`.
        run: `rows`, which prompts; `live` `[run, place, layer, head]`; `start`, -1 to run all layers; and, unless it
            is -1, `stream` and `z` of the start layer `[row, place, ...]`.

    Returns:
        `hidden` `[row, run, d_model]` at the last place; `streams` and `z`, what layers after the start took in and
        computed before it was replaced, by layer `[row * lane, pack * place, ...]`.
    """
    shape, top, start = inputs["shape"], anatomy["n_layers"] - 1, run["start"]
    live = lay_out(run["live"], shape)
    seen: dict[str, Any] = {"streams": {}, "z": {}}
    stream = torch.empty(0)
    if start >= 0:
        fill = gather_fill(fills[start], run["rows"], inputs["slots"])
        stream = finish_start(model, anatomy, start, run, live[..., start, :], fill[:, 0, 0])
        flat = stream.reshape(shape[0] * shape[1], shape[2] * shape[3], -1)
        for layer in range(start + 1 if start < top else 0):
            layer_at(model, anatomy, layer).skip(flat)
    for layer in range(start + 1, top + 1):
        fill = gather_fill(fills[layer], run["rows"], inputs["slots"])
        mask_layer(model, anatomy, layer, inputs)
        seen["streams"][layer] = layer_at(model, anatomy, layer).input
        o_proj = part(model, anatomy, layer, "o_proj")
        seen["z"][layer] = o_proj.input
        z = select_z(seen["z"][layer].reshape(*shape, -1), live[..., layer, :], fill)
        if layer < top:
            o_proj.input = z.reshape(seen["z"][layer].shape)
        else:
            stream = finish_heads(
                model, anatomy, top, seen["streams"][top].reshape(*shape, -1)[:, :, :, -1:], z[:, :, :, -1:]
            )
    hidden = stream[:, :, :, -1].flatten(1, 2)[:, : run["live"].shape[0]]
    return {"hidden": hidden, **seen}


def finish_start(
    model: Any,
    anatomy: Anatomy,
    start: int,
    run: dict[str, Any],
    live: Bool[Tensor, "lane pack place head"],
    fill: Float[Tensor, "row place width"],
) -> Float[Tensor, "row lane pack place d_model"]:
    """The end of the start layer, once for each place and set of live heads that occurs there."""
    places = torch.arange(live.shape[2], device=live.device).expand(live.shape[:3]).flatten()
    heads = live.flatten(0, 2)
    number = number_rows(places, heads)
    one = torch.empty(int(number.max()) + 1, dtype=torch.long, device=live.device)
    one[number] = torch.arange(len(number), device=live.device)
    place = places[one].to(fill.device)
    z = select_z(run["z"][:, place], heads[one], fill[:, place])
    stream = finish_heads(model, anatomy, start, run["stream"][:, place], z)
    return stream[:, number.to(stream.device)].unflatten(1, live.shape[:3])


def number_rows(number: Int[Tensor, " row"], flags: Bool[Tensor, "row flag"]) -> Int[Tensor, " row"]:
    """New numbers for numbered rows of flags, from 0 on: equal where both the old number and the flags are.

    Many times faster than `Tensor.unique` of rows.
    """
    for bits in flags.long().split(32, 1):
        code = (bits << torch.arange(bits.shape[1], device=bits.device)).sum(1)
        number = ((number << 32) + code).unique(return_inverse=True)[1]
    return number


def lay_out(live: Bool[Tensor, "run ..."], shape: tuple[int, ...]) -> Bool[Tensor, "lane pack ..."]:
    """Live heads of the runs by lane and pack; the last run is repeated to fill the last lane."""
    _, lanes, pack, _ = shape
    return torch.cat([live, live[-1:].expand(lanes * pack - len(live), *live.shape[1:])]).unflatten(0, (lanes, pack))


def gather_fill(
    fill: Float[Tensor, "batch token width"], rows: Int[Tensor, " row"], slots: Int[Tensor, "row lane pack place"]
) -> Float[Tensor, "row lane pack place width"]:
    """What ablated heads take at each place."""
    slots = slots.to(fill.device)
    index = rows.to(fill.device) if fill.shape[0] > 1 else torch.zeros_like(rows, device=fill.device)
    return fill[index[:, None, None, None], slots]


def select_z(
    z: Float[Tensor, "... width"], live: Bool[Tensor, "... head"], fill: Float[Tensor, "... width"]
) -> Float[Tensor, "... width"]:
    """Z with the heads that are not live replaced; leading axes broadcast."""
    keep = live.to(z.device)[..., None].expand(*live.shape, z.shape[-1] // live.shape[-1]).flatten(-2)
    return torch.where(keep, z, fill.to(z))


def finish_heads(
    model: Any,
    anatomy: Anatomy,
    layer: int,
    stream: Float[Tensor, "... d_model"],
    z: Float[Tensor, "... width"],
) -> Float[Tensor, "... d_model"]:
    """The end of a layer, given its input and z: `o_proj`, the stream after attention, the MLP."""
    attention = through(model, anatomy, layer, "o_proj", z)
    attention = through(model, anatomy, layer, "post_attention_norm", attention)
    return finish_layer(model, anatomy, layer, stream, attention)
