"""The clean and the counterfactual pass of a batch, from which every stage of path patching starts.

They do not depend on the stage, so that stages of one run can share them where the sessions run in one process.
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, at, head_columns, split_heads
from entitrack.engine.answers import Prompts, answer_probability
from entitrack.engine.caches import Run
from entitrack.engine.runs import read_z, run_prompts


class SourcePrompts(TypedDict):
    """Counterfactual prompts of a stage."""

    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]
    position: Int[Tensor, " batch"] | Int[Tensor, "layer head batch"]
    """Where z is read; by head, where every head reads at a place of its own."""


class Passes(TypedDict):
    """What path patching needs of both runs."""

    clean: Run
    """Streams and z at every token; keys and values, unless the logits receive and the passes are not shared."""
    source_z: dict[int, Float[Tensor, "batch token width"]]
    probability: Float[Tensor, " batch"]
    """Of the right answer."""


def both_passes(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    source: SourcePrompts,
    top: int | None = None,
    kept: dict[str, Any] | None = None,
) -> Passes:
    """Run the clean and the counterfactual prompts.

    Args:
        model: The model.
        anatomy: Its anatomy.
        clean: Its `position` does not matter.
        source: Its `position` matters where nothing is kept.
        top: The layers below it send, and it and those below it receive; None where the logits do.
        kept: Where an earlier stage of the same prompts left its passes, and where these are left. With it, the passes
            are those that any stage needs.
    """
    if kept:
        return kept["passes"]
    shared = kept is not None
    layers = anatomy["n_layers"] if shared or top is None else top
    seen = source["tokens"].shape[1] if shared else int(source["position"].max()) + 1
    run = run_prompts(model, anatomy, clean, range(layers + 1), range(layers), cached=shared or top is not None)
    probability = answer_probability(run.pop("logits"), clean["answers"])
    short = {name: source[name][:, :seen] for name in ("tokens", "mask")}  # type: ignore[literal-required]
    source_z = read_z(model, anatomy, short, range(layers))
    passes: Passes = {"clean": run, "source_z": source_z, "probability": probability}
    if kept is not None:
        kept["passes"] = passes
    return passes


def passes_bytes(kept: dict[str, Any]) -> int:
    """Bytes of what `both_passes` keeps; 0 for nothing kept."""
    if not kept:
        return 0
    passes: Passes = kept["passes"]
    run = passes["clean"]
    by_layer = (run["streams"], run["z"], run["keys"], run["values"], passes["source_z"])
    return sum(tensor.nbytes for tensors in by_layer for tensor in tensors.values())


def read_source(
    model: Any, anatomy: Anatomy, source: SourcePrompts, layers: list[int]
) -> dict[int, Float[Tensor, "batch head d_head"]]:
    """Counterfactual z of some layers, where the source says to read it."""
    end = int(source["position"].max()) + 1
    short = {"tokens": source["tokens"][:, :end], "mask": source["mask"][:, :end]}
    z = read_z(model, anatomy, short, layers)
    return {layer: sent_z(anatomy, z[layer], source["position"], layer) for layer in layers}


def sent_z(
    anatomy: Anatomy, z: Float[Tensor, "batch token width"], position: Tensor, layer: int
) -> Float[Tensor, "batch head d_head"]:
    """Z by heads, at one position a row, `[batch]`, or at one a head and row, `[layer, head, batch]`."""
    if position.dim() == 1:
        return split_heads(anatomy, "z", at(z, position))
    rows = torch.arange(z.shape[0], device=z.device)[:, None, None]
    return z[rows, position[layer].T.to(z.device)[:, :, None], head_columns(anatomy, "z", z.device)[None]]
