"""What path patching is measured on: prompts of the paper's shape, and receivers as deep as Llama-7B's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from entitrack.models.family import Model

TOKENS = 54
RECEIVING_DEPTHS = {
    "value_fetcher": (),
    "pos_transmitter": (0.5, 0.6, 0.75, 0.9),
    "pos_detector": (0.35, 0.45, 0.55),
    "struct_reader": (0.25, 0.35, 0.45),
}
"""Stage -> how deep its receivers sit, as a share of the layers: about where Llama-7B's are."""
COMPONENTS = {"value_fetcher": "logits", "pos_transmitter": "q", "pos_detector": "v", "struct_reader": "v"}


def draw_inputs(model: Model, stage: str, prompts: int) -> dict[str, Any]:
    """Random prompts of the paper's length with its roles in the paper's places, and receivers as deep as Llama's."""
    generator = torch.Generator().manual_seed(0)
    tokens, others = torch.randint(3, 100, (2, prompts, TOKENS), generator=generator)
    last = torch.full((prompts,), TOKENS - 1)
    previous = 6 + 7 * (torch.arange(prompts) % 7)
    places = {"pos_detector": last - 2, "struct_reader": previous}
    return stage_inputs(model, stage, (tokens, others), places.get(stage, last), last, receiving(model, stage))


def golden_inputs(folder: Path, record: dict[str, Any], stage: str) -> dict[str, Any]:
    """Golden's own prompts and receivers."""
    from safetensors.torch import load_file

    golden = load_file(folder / "golden.safetensors")
    tokens, last = golden["pp.clean_tokens"], golden["pp.last"]
    previous = 6 + 7 * (torch.arange(len(tokens)) % 7)
    position = {"pos_detector": last - 2, "struct_reader": previous}.get(stage, last)
    heads = [tuple(head) for head in record["pp.receivers"].get(stage, [])]
    inputs = stage_inputs(None, stage, (tokens, golden["pp.corrupt_tokens"]), position, last, heads)
    inputs["clean"]["answers"] = golden["pp.labels"]
    if stage == "struct_reader":
        inputs["source"]["position"] = golden["pp.corrupt_label_position"]
    return inputs


def stage_inputs(
    model: Model | None,
    stage: str,
    tokens: tuple[Tensor, Tensor],
    position: Tensor,
    last: Tensor,
    heads: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """The arguments of `path_effects` and `naive_effects`, but for senders."""
    clean, others = tokens
    mask = torch.ones_like(clean)
    receivers: dict[str, Any] = {"component": COMPONENTS[stage]}
    if heads:
        receivers["heads"] = [list(head) for head in heads]
    prompts = {"tokens": clean, "mask": mask, "position": position, "last": last, "answers": clean[:, 4]}
    return {"clean": prompts, "source": {"tokens": others, "mask": mask, "position": position}, "receivers": receivers}


def receiving(model: Model, stage: str) -> list[tuple[int, int]]:
    """One receiver at each of the stage's depths."""
    layers, kv_heads = model.anatomy["n_layers"], model.anatomy["n_kv_heads"]
    depths = sorted({min(layers - 1, max(1, round(depth * layers))) for depth in RECEIVING_DEPTHS[stage]})
    return [(layer, number % kv_heads) for number, layer in enumerate(depths)]
