"""What runs leave for reruns to start from: streams, z, and the keys and values of a cache."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, layer_at


class Run(TypedDict):
    """What a run over whole prompts left, by layer; reruns start from it."""

    streams: dict[int, Float[Tensor, "batch place d_model"]]
    """A layer's input, at the places that were asked for, every token where none were."""
    z: dict[int, Float[Tensor, "batch place width"]]
    """What attention computed, before anything was put in its place."""
    keys: dict[int, Float[Tensor, "batch kv_head token d_head"]]
    values: dict[int, Float[Tensor, "batch kv_head token d_head"]]
    cache: Any
    """The class of the model's caches; None where keys and values were not kept."""
    logits: NotRequired[Float[Tensor, "batch vocab"]]
    """At the last token, float32."""


def empty_cache(model: Any, anatomy: Anatomy, tokens: Int[Tensor, "batch token"]) -> Any:
    """A cache of the kind that the model makes itself, which keeps all tokens in layers with a window too.

    One token is given to the model to see which kind that is: at its first layer, where that is told, or at its end.
    """
    with torch.no_grad():
        with model.trace(tokens[:1, :1], use_cache=True) as tracer:
            own = layer_at(model, anatomy, 0).inputs[1].get(anatomy["cache"])
            if own is None:
                own = model.output[anatomy["cache"]]
            tracer.stop()
    return type(own)()


def cache_entries(cache: Any) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Keys and values by layer of a cache that was filled; none of no cache."""
    layers = cache.layers if cache is not None else []
    return (
        {layer: entry.keys for layer, entry in enumerate(layers)},
        {layer: entry.values for layer, entry in enumerate(layers)},
    )


def filled_cache(kind: Any, keys: dict[int, Tensor], values: dict[int, Tensor]) -> Any:
    """A cache that holds keys and values by layer as they are; its own `update` would copy them."""
    cache = kind()
    for layer in sorted(keys):
        cache.update(keys[layer][:0, :, :0], values[layer][:0, :, :0], layer)
        cache.layers[layer].keys, cache.layers[layer].values = keys[layer], values[layer]
    return cache
