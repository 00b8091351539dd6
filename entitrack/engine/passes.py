"""The clean and the counterfactual pass of a batch, from which every stage of path patching starts.

They do not depend on the stage, so that stages of one run can share them where the sessions run in one process.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.engine.evaluation import answer_probability, empty_cache, forward_inputs
from entitrack.engine.sites import (
    Anatomy,
    at,
    finish_layer,
    head_columns,
    layer_at,
    part,
    split_heads,
    through,
    unembed,
)


def both_passes(
    model: Any,
    anatomy: Anatomy,
    clean: dict[str, Tensor],
    source: dict[str, Tensor],
    top: int | None = None,
    kept: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What path patching needs of the clean and of the counterfactual run.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: See `path_patching.path_effects`; its `position` does not matter.
        source: See there; its `position` matters where nothing is kept.
        top: The layers below it send, and it and those below it receive; None where the logits do.
        kept: Where an earlier stage of the same prompts left its passes, and where these are left. With it, the passes
            are those that any stage needs.

    Returns:
        `probability` `[batch]` of the right answer; `streams` `[batch, token, d_model]`, `z` and `source_z`
        `[batch, token, width]`, lists by layer: the layer's input and that of its `o_proj`; and `cache`, the clean keys
        and values, None where the logits receive and nothing is kept.
    """
    if kept:
        return kept
    everything = kept is not None
    layers = anatomy["n_layers"] if everything or top is None else top
    seen = source["tokens"].shape[1] if everything else int(source["position"].max()) + 1
    short = {name: source[name][:, :seen] for name in ("tokens", "mask")}
    passes = clean_pass(model, anatomy, clean, layers, everything or top is not None)
    passes["source_z"] = source_pass(model, anatomy, short, list(range(layers)))
    if kept is not None:
        kept.update(passes)
    return passes


def clean_pass(model: Any, anatomy: Anatomy, clean: dict[str, Tensor], layers: int, with_cache: bool) -> dict[str, Any]:
    """The clean run; in its last layer only the last token goes on after attention."""
    cache = empty_cache(model, clean["tokens"]) if with_cache else None
    found: dict[str, Any] = {"streams": [], "z": [], "cache": cache}
    caching = {"use_cache": with_cache, "past_key_values": cache}
    top = anatomy["n_layers"] - 1
    with torch.no_grad():
        with model.trace({**forward_inputs(clean), **caching}) as tracer:
            for layer in range(anatomy["n_layers"]):
                if layer <= layers or layer == top:
                    stream = layer_at(model, anatomy, layer).input
                if layer <= layers:
                    found["streams"].append(stream)
                if layer < layers or layer == top:
                    z = part(model, anatomy, layer, "o_proj").input
                if layer < layers:
                    found["z"].append(z)
            attention = through(model, anatomy, top, "o_proj", at(z, clean["last"]))
            attention = through(model, anatomy, top, "post_attention_norm", attention)
            hidden = finish_layer(model, anatomy, top, at(stream, clean["last"]), attention)
            found["probability"] = answer_probability(unembed(model, anatomy, hidden), clean["answers"])
            tracer.stop()
    return found


def passes_bytes(passes: dict[str, Any]) -> int:
    """Bytes of what `both_passes` keeps; 0 for nothing kept."""
    if not passes:
        return 0
    cached = [tensor for entry in passes["cache"].layers for tensor in (entry.keys, entry.values)]
    return sum(tensor.nbytes for tensor in (*passes["streams"], *passes["z"], *passes["source_z"], *cached))


def source_pass(
    model: Any, anatomy: Anatomy, prompts: dict[str, Tensor], layers: list[int]
) -> list[Float[Tensor, "batch token width"]]:
    """Z of the given layers, everywhere."""
    found = []
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False) as tracer:
            for layer in layers:
                found.append(part(model, anatomy, layer, "o_proj").input)
            tracer.stop()
    return found


def read_source(
    model: Any, anatomy: Anatomy, source: dict[str, Tensor], layers: list[int]
) -> dict[int, Float[Tensor, "batch head d_head"]]:
    """Counterfactual z of some layers, where the source says to read it."""
    end = int(source["position"].max()) + 1
    short = {name: source[name][:, :end] for name in ("tokens", "mask")}
    found = source_pass(model, anatomy, short, layers)
    return {layer: sent_z(anatomy, z, source["position"], layer) for layer, z in zip(layers, found, strict=True)}


def sent_z(
    anatomy: Anatomy, z: Float[Tensor, "batch token width"], position: Tensor, layer: int
) -> Float[Tensor, "batch head d_head"]:
    """Z by heads, at one position a row, `[batch]`, or at one a head and row, `[layer, head, batch]`."""
    if position.dim() == 1:
        return split_heads(anatomy, "z", at(z, position))
    rows = torch.arange(z.shape[0], device=z.device)[:, None, None]
    return z[rows, position[layer].T.to(z.device)[:, :, None], head_columns(anatomy, "z", z.device)[None]]
