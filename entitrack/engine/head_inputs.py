"""Giving heads another model's q, k and v instead of its z.

Replaced: q of the heads at their role, k and v at the positions before it. Frozen: every other z outside the last
token, at the model's own value, so nothing but those heads carries the change. Recomputed: MLPs, and everything at the
last token.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.evaluation import forward_inputs, verdict
from entitrack.engine.sites import Anatomy, at, head_columns, part, projection, split_heads


def read_head_inputs(
    model: Any, anatomy: Anatomy, prompts: dict[str, Tensor], sites: list[dict[str, Any]]
) -> dict[str, Any]:
    """q, k and v of given heads.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: See `entitrack.engine.evaluation.answer`.
        sites: Each `{"layer", "heads": {"q": [...], "k": [...], "v": [...]}, "position" [batch]}`, layers ascending;
            heads of k and v are KV groups.

    Returns:
        `q`: for each site `[batch, head, d_head]` at its position; `k` and `v`: for each site
        `[batch, token, head, d_head]`.
    """
    found: dict[str, Any] = {"q": [], "k": [], "v": []}
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for layer in sorted({site["layer"] for site in sites}):
                values = read_projections(model, anatomy, layer)
                for site in sites:
                    if site["layer"] == layer:
                        q = at(split_heads(anatomy, "q", values["q"]), site["position"])
                        found["q"].append(q[:, site["heads"]["q"]])
                        for name in ("k", "v"):
                            found[name].append(split_heads(anatomy, name, values[name])[:, :, site["heads"][name]])
    return found


def read_projections(model: Any, anatomy: Anatomy, layer: int) -> dict[str, Tensor]:
    """Outputs of a layer's q, k and v projections; one and the same where they are fused."""
    values: dict[str, Tensor] = {}
    by_path: dict[str, Tensor] = {}
    for name in ("q", "k", "v"):
        path = anatomy["projections"][name]
        if path not in by_path:
            by_path[path] = projection(model, anatomy, layer, name).output
        values[name] = by_path[path]
    return values


def answer_with_inputs(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    sites: list[dict[str, Any]],
    variants: list[dict[str, Any]],
) -> dict[str, Tensor]:
    """Answers with the q, k or v of given heads replaced, for several choices of heads and components.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: See `entitrack.engine.evaluation.answer`.
        sites: As `read_head_inputs` takes them, with `values` `{"q", "k", "v"}` as it returns them.
        variants: Each `{"sites": numbers of the sites, "components": some of "q", "k", "v"}`.

    Returns:
        `prediction` and `probability` `[variant, batch]`.
    """
    clean = read_z(model, anatomy, prompts)
    results = []
    for variant in variants:
        chosen = [sites[number] for number in variant["sites"]]
        logits = logits_with_inputs(model, anatomy, prompts, chosen, variant["components"], clean)
        results.append(verdict(logits, prompts["answers"]))
    return {name: torch.stack([result[name] for result in results]) for name in ("prediction", "probability")}


def read_z(model: Any, anatomy: Anatomy, prompts: dict[str, Tensor]) -> list[Float[Tensor, "batch token width"]]:
    """Every layer's input of `o_proj`."""
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            clean = [part(model, anatomy, layer, "o_proj").input for layer in range(anatomy["n_layers"])]
    return clean


def logits_with_inputs(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    sites: list[dict[str, Any]],
    components: str,
    clean: list[Tensor],
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of one variant; see `answer_with_inputs`."""
    with torch.no_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for layer in range(anatomy["n_layers"]):
                here = [site for site in sites if site["layer"] == layer]
                replace_inputs(model, anatomy, layer, here, components)
                o_proj = part(model, anatomy, layer, "o_proj")
                z = o_proj.input
                live = live_heads(anatomy, prompts["last"], z, here)
                o_proj.input = torch.where(live, z, clean[layer])
            logits = at(model.output.logits, prompts["last"])
    return logits


def replace_inputs(model: Any, anatomy: Anatomy, layer: int, sites: list[dict[str, Any]], components: str) -> None:
    """Write the sites' q, k and v into a layer's projections, module by module in the order they run."""
    if not sites:
        return
    for path in dict.fromkeys(anatomy["projections"][name] for name in ("q", "k", "v")):
        names = [name for name in components if anatomy["projections"][name] == path]
        if not names:
            continue
        module = projection(model, anatomy, layer, names[0])
        values = module.output.clone()
        for name in names:
            for site in sites:
                put(anatomy, values, name, site)
        module.output = values


def put(anatomy: Anatomy, values: Float[Tensor, "batch token width"], component: str, site: dict[str, Any]) -> None:
    """Write one site's q at its position, or its k or v at the positions before it, in place."""
    columns = head_columns(anatomy, component, values.device)[site["heads"][component]].flatten()
    position = site["position"].to(values.device)
    new = site["values"][component].flatten(-2).to(values)
    if component == "q":
        values[torch.arange(len(position), device=values.device)[:, None], position[:, None], columns[None]] = new
    else:
        before = torch.arange(values.shape[1], device=values.device)[None] < position[:, None]
        values[:, :, columns] = torch.where(before[:, :, None], new, values[:, :, columns])


def live_heads(
    anatomy: Anatomy, last: Int[Tensor, " batch"], z: Float[Tensor, "batch token width"], sites: list[dict[str, Any]]
) -> Bool[Tensor, "batch token width"]:
    """Where z is recomputed: all heads at the last token, and the sites' own heads at their position."""
    rows = torch.arange(z.shape[0], device=z.device)
    live = torch.zeros_like(z, dtype=torch.bool)
    live[rows, last.to(z.device)] = True
    for site in sites:
        columns = head_columns(anatomy, "z", z.device)[site["heads"]["q"]].flatten()
        live[rows[:, None], site["position"].to(z.device)[:, None], columns[None]] = True
    return live
