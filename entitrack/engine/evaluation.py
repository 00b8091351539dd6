"""What a model answers, with some of its activations replaced."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.sites import (
    Anatomy,
    at,
    head_columns,
    part,
    position_ids,
    split_heads,
)


def answer(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model's own answers. Nothing is frozen, recomputed or replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, `last` and `answers` `[batch]`.

    Returns:
        See `verdict`.
    """
    with torch.no_grad(), model.trace(forward_inputs(prompts), use_cache=False):
        result = verdict(at(model.output.logits, prompts["last"]), prompts["answers"])
    return result


def forward_inputs(prompts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arguments of a forward pass over padded prompts."""
    mask = prompts["mask"]
    return {"input_ids": prompts["tokens"], "attention_mask": mask, "position_ids": position_ids(mask)}


def full_cache(model: Any, anatomy: Anatomy, tokens: Int[Tensor, "batch token"]) -> dict[str, Any]:
    """Arguments that make a forward pass keep the keys and values of all tokens, in layers with a window too.

    A model with sliding-window layers would keep the window only, so it is given a cache.
    """
    if not any(anatomy["windows"]):
        return {"use_cache": True}
    return {"use_cache": True, "past_key_values": empty_cache(model, tokens)}


def empty_cache(model: Any, tokens: Int[Tensor, "batch token"]) -> Any:
    """A cache that keeps everything, of the kind that the model makes itself: one token goes through to see which."""
    with torch.no_grad(), model.trace(tokens[:1, :1], use_cache=True):
        own = model.output.past_key_values
    return type(own)()


def filled_cache(kind: Any, entries: dict[int, tuple[Tensor, Tensor]]) -> Any:
    """A cache of a kind that holds keys and values by layer as they are; its own `update` would copy them."""
    cache = kind()
    for layer, (keys, values) in entries.items():
        cache.update(keys[:0, :, :0], values[:0, :, :0], layer)
        cache.layers[layer].keys, cache.layers[layer].values = keys, values
    return cache


def answer_probability(
    logits: Float[Tensor, "batch ... vocab"], answers: Int[Tensor, " batch"]
) -> Float[Tensor, "batch ..."]:
    """Probability of the right answer, in float32."""
    logits = logits.float()
    index = answers.to(logits.device).view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return (logits.gather(-1, index).squeeze(-1) - logits.logsumexp(-1)).exp()


def verdict(logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"]) -> dict[str, Tensor]:
    """How the logits stand to the right answers.

    Returns:
        `prediction` `[batch]`, the most likely token; `probability` `[batch]` of the right answer, float32.
    """
    return {"prediction": logits.argmax(-1), "probability": answer_probability(logits, answers)}


def read_heads(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor], sites: list[dict[str, Any]]) -> dict[str, Any]:
    """Activations of given heads at one position a prompt, and the model's own answers.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: See `answer`.
        sites: Each `{"layer", "heads", "position" [batch]}`, layers in ascending order.

    Returns:
        `values`: for each site z `[batch, head, d_head]`; and what `answer` returns.
    """
    found = []
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for site in sites:
                z = split_heads(anatomy, "z", at(part(model, anatomy, site["layer"], "o_proj").input, site["position"]))
                found.append(z[:, site["heads"]])
            own = verdict(at(model.output.logits, prompts["last"]), prompts["answers"])
    return {"values": found, **own}


def answer_patched(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    sites: list[dict[str, Any]],
    variants: list[list[int]],
) -> dict[str, Tensor]:
    """Answers with z of given heads at one position a prompt replaced, for several sets of heads.

    Replaced: those z, by the given values. Recomputed: everything after them. Frozen: nothing, so embeddings, MLPs
    and the other positions are the model's own.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: See `answer`.
        sites: Each `{"layer", "heads", "position" [batch], "values" [batch, head, d_head]}`.
        variants: For each variant the numbers of the sites that are replaced; with none of them, the model is itself.

    Returns:
        `prediction` and `probability` `[variant, batch]`, see `verdict`.
    """
    results = []
    for chosen in variants:
        patched = logits_patched(model, anatomy, prompts, [sites[number] for number in chosen])
        results.append(verdict(patched, prompts["answers"]))
    return {name: torch.stack([result[name] for result in results]) for name in ("prediction", "probability")}


def logits_patched(
    model: Any, anatomy: Anatomy, prompts: dict[str, Tensor], sites: list[dict[str, Any]]
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token with the z of `sites` replaced; see `answer_patched`."""
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for layer in range(anatomy["n_layers"]):
                here = [site for site in sites if site["layer"] == layer]
                if here:
                    o_proj = part(model, anatomy, layer, "o_proj")
                    o_proj.input = replace_z(anatomy, o_proj.input, here)
            logits = at(model.output.logits, prompts["last"])
    return logits


def replace_z(
    anatomy: Anatomy, z: Float[Tensor, "batch token width"], sites: list[dict[str, Any]]
) -> Float[Tensor, "batch token width"]:
    """A copy of `o_proj`'s input with the sites' values in it."""
    replaced = z.clone()
    rows = torch.arange(z.shape[0], device=z.device)[:, None]
    for site in sites:
        columns = head_columns(anatomy, "z", z.device)[site["heads"]].flatten()
        values = site["values"].flatten(1).to(z)
        replaced[rows, site["position"].to(z.device)[:, None], columns[None]] = values
    return replaced
