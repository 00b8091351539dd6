"""Runs over whole prompts: looked at and changed on the way, or left behind for reruns to start from."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, after_heads, at, layer_at, part, unembed
from entitrack.engine.answers import Prompts, forward_inputs
from entitrack.engine.caches import Run, cache_entries, empty_cache
from entitrack.engine.elsewhere import read_logits, unembedded
from entitrack.engine.shared_prefixes import Shared, find_shared, in_order, run_shared
from entitrack.engine.sites import Visit, Visits, visit_layer


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
    kept = unembedded(model, anatomy, prompts["last"].unique().tolist())
    with torch.no_grad():
        with model.trace({**forward_inputs(prompts), **kept}, use_cache=False):
            for layer in range(first):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in sorted(visits):
                visit_layer(model, anatomy, layer, visits[layer])
            logits = read_logits(model, anatomy, prompts["last"][:, None], kept)[:, 0]
    return logits


def look(model: Any, anatomy: Anatomy, prompts: Prompts, visits: Visits) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of the model's own run, of which components are shown to visits, which leave them.

    Prompts that begin alike share what they have in common, see `shared_prefixes`.
    """
    shared = find_shared(anatomy, prompts)
    if shared is None:
        return logits_with(model, anatomy, prompts, visits)
    logits = run_shared(model, anatomy, prompts, shared, visits)[1]
    assert logits is not None
    return logits


def show(model: Any, anatomy: Anatomy, prompts: Any, visits: Visits) -> None:
    """Show components to visits, which leave them, in a run that ends with the last of them.

    Prompts have `tokens` and `mask`; those that begin alike share what they have in common, see `shared_prefixes`.
    Where modules are elsewhere the run goes on, with one token unembedded.
    """
    shared = find_shared(anatomy, prompts)
    if shared is not None:
        run_shared(model, anatomy, prompts, shared, visits, logits=False)
        return
    kept = unembedded(model, anatomy, [0])
    with torch.no_grad():
        with model.trace({**forward_inputs(prompts), **kept}, use_cache=False) as tracer:
            for layer in sorted(visits):
                visit_layer(model, anatomy, layer, visits[layer])
            if not anatomy.get("elsewhere"):
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
    shared = find_shared(anatomy, prompts) if fills is None or all(len(fill) == 1 for fill in fills) else None
    if shared is not None:
        return _run_shared(model, anatomy, prompts, shared, streams, z, places, fills, cached)
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


def _run_shared(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    shared: Shared,
    streams: Container[int],
    z: Container[int],
    places: Int[Tensor, "batch place"] | None,
    fills: Sequence[Float[Tensor, "1 token width"]] | None,
    cached: bool,
) -> Run:
    """`run_prompts` of prompts that share beginnings."""
    seen: dict[str, dict[int, Tensor]] = {"resid_pre": {}, "z": {}}

    def keep(layer: int, component: str) -> Visit:
        return lambda values: seen[component].update({layer: at_places(values, places)})

    wanted = {"resid_pre": streams, "z": z}
    visits = {
        layer: {name: keep(layer, name) for name, layers in wanted.items() if layer in layers}
        for layer in range(anatomy["n_layers"])
    }
    cache, logits = run_shared(model, anatomy, prompts, shared, visits, fills)
    assert logits is not None
    keys, values = (
        {layer: in_order(shared, entries.transpose(1, 2)).transpose(1, 2) for layer, entries in by_layer.items()}
        for by_layer in cache_entries(cache if cached else None)
    )
    return {
        "streams": seen["resid_pre"],
        "z": seen["z"],
        "keys": keys,
        "values": values,
        "cache": type(cache) if cached else None,
        "logits": logits.float(),
    }


def at_places(
    values: Float[Tensor, "batch token width"], places: Int[Tensor, "batch place"] | None
) -> Float[Tensor, "batch place width"]:
    """Some tokens of every row; all for None."""
    if places is None:
        return values
    return values[torch.arange(values.shape[0], device=values.device)[:, None], places.to(values.device)]
