"""Runs over whole prompts: looked at and changed on the way, or left behind for reruns to start from."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, after_heads, at, layer_at, part, unembed
from entitrack.engine.answers import Prompts, forward_inputs
from entitrack.engine.sites import Visits, visit_layer


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


def logits_with(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    visits: Visits,
    first: int = 0,
    stream: Float[Tensor, "batch token d_model"] | None = None,
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of a run whose components are shown to visits.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        visits: What is shown what.
        first: The first layer that runs; those below it are skipped.
        stream: What enters it; None where it is 0, which the embeddings enter.
    """
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for layer in range(first):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in sorted(visits):
                visit_layer(model, anatomy, layer, visits[layer])
            logits = at(model.output.logits, prompts["last"])
    return logits


def show(model: Any, anatomy: Anatomy, prompts: Any, visits: Visits) -> None:
    """Show components to visits in a run that ends with the last of them; prompts have `tokens` and `mask`."""
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False) as tracer:
            for layer in sorted(visits):
                visit_layer(model, anatomy, layer, visits[layer])
            tracer.stop()


def read_z(
    model: Any, anatomy: Anatomy, prompts: Any, layers: Sequence[int]
) -> dict[int, Float[Tensor, "batch token width"]]:
    """Z of some layers, everywhere; prompts have `tokens` and `mask`."""
    z: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        return {"z": lambda values: z.update({layer: values})}

    show(model, anatomy, prompts, {layer: keep(layer) for layer in layers})
    return z


def run_prompts(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    streams: Container[int],
    z: Container[int],
    places: Int[Tensor, "batch place"] | None = None,
    fills: Sequence[Float[Tensor, "#batch token width"]] | None = None,
    cached: bool = True,
) -> Run:
    """A run that others start from. In the last layer only the last token goes on after attention.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts; `answers` are not needed.
        streams: Layers whose input is kept.
        z: Layers whose z is kept.
        places: The tokens at which they are kept; None for all.
        fills: By layer, what every head gives at every token in place of its own z; None to leave z alone.
        cached: Keep keys and values.
    """
    top = anatomy["n_layers"] - 1
    cache = empty_cache(model, anatomy, prompts["tokens"]) if cached else None
    seen: dict[str, dict[int, Tensor]] = {"streams": {}, "z": {}}
    with torch.no_grad():
        with model.trace({**forward_inputs(prompts), "use_cache": cached, anatomy["cache"]: cache}) as tracer:
            for layer in range(anatomy["n_layers"]):
                if layer in streams or layer == top:
                    stream = layer_at(model, anatomy, layer).input
                if layer in streams:
                    seen["streams"][layer] = at_places(stream, places)
                if layer in z or layer == top or fills is not None:
                    o_proj = part(model, anatomy, layer, "o_proj")
                    heads = o_proj.input
                if layer in z:
                    seen["z"][layer] = at_places(heads, places)
                if fills is not None:
                    heads = fills[layer].to(heads).expand_as(heads).clone()
                    o_proj.input = heads
            final = after_heads(model, anatomy, top, at(stream, prompts["last"]), at(heads, prompts["last"]))
            logits = unembed(model, anatomy, final)
            tracer.stop()
    keys, values = cache_entries(cache)
    return {
        "streams": seen["streams"],
        "z": seen["z"],
        "keys": keys,
        "values": values,
        "cache": type(cache) if cached else None,
        "logits": logits,
    }


def at_places(
    values: Float[Tensor, "batch token width"], places: Int[Tensor, "batch place"] | None
) -> Float[Tensor, "batch place width"]:
    """Some tokens of every row; all for None."""
    if places is None:
        return values
    return values[torch.arange(values.shape[0], device=values.device)[:, None], places.to(values.device)]


def empty_cache(model: Any, anatomy: Anatomy, tokens: Int[Tensor, "batch token"]) -> Any:
    """A cache of the kind that the model makes itself, which keeps all tokens in layers with a window too.

    One token goes through the model to see which kind that is.
    """
    with torch.no_grad():
        with model.trace(tokens[:1, :1], use_cache=True):
            own = model.output[anatomy["cache"]]
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
