"""The real models, their prompts, and what CMAP transplants into them, as benchmarks take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.path_patching_inputs import receiving, stage_inputs
from entitrack.cli.config import CONF
from entitrack.models.family import Checkpoint, Family, Model
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import encode

REAL = ("smollm2", "gemma3-270m")
PHRASING = "label_first"
"""The phrasing that both can do something with."""
ROLES = {
    "value_fetcher": "last",
    "pos_transmitter": "last",
    "pos_detector": "query_label",
    "struct_reader": "prev_query_label",
}
DEPTHS = {
    "value_fetcher": (0.6, 0.8),
    "pos_transmitter": (0.5, 0.6),
    "pos_detector": (0.3, 0.5),
    "struct_reader": (0.2, 0.3),
}
"""Group -> how deep its heads sit, as a share of the layers: about where path patching finds them in both."""


def real_base(name: str, device: str) -> Model:
    """The base of a family of real models; its package must be installed, see the README."""
    from omegaconf import OmegaConf

    told: Any = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    base = told["base"]
    members = {base: Checkpoint(told["members"][base]["path"])}
    return Family(name, base, members, device=device).load(base)


def real_prompts(model: Model, count: int, boxes: int = 7) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Prompts of contexts with all their questions, as interventions take them, and the positions of their roles."""
    batch = encode(Boxes(count=count, boxes=boxes, phrasing=PHRASING).prompts(), model.envoy.tokenizer)
    prompts = {"tokens": batch.tokens, "mask": batch.mask, "last": batch.positions["last"], "answers": batch.answers}
    return prompts, dict(batch.positions)


def real_inputs(model: Model, stage: str, count: int) -> dict[str, Any]:
    """The arguments of a stage of path patching, of real prompts, with receivers as deep as Llama-7B's."""
    pairs = Boxes(count=count, phrasing=PHRASING).pairs()
    tokenizer = model.envoy.tokenizer
    clean, other = (
        encode(prompts, tokenizer)
        for prompts in ([pair.clean for pair in pairs], [pair.counterfactual for pair in pairs])
    )
    role = ROLES[stage]
    inputs = stage_inputs(
        model,
        stage,
        (clean.tokens, other.tokens),
        clean.positions[role],
        clean.positions["last"],
        receiving(model, stage),
    )
    inputs["clean"] |= {"mask": clean.mask, "answers": clean.answers}
    inputs["source"] |= {"mask": other.mask, "position": other.positions[role]}
    return inputs


def transplants(
    model: Model, positions: dict[str, Tensor], seed: int = 0
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """What CMAP puts in, and its variants: the model itself, a circuit of two heads a group, and each group of it."""
    generator, anatomy = torch.Generator().manual_seed(seed), model.anatomy
    patches: list[dict[str, Any]] = []
    groups: list[list[int]] = []
    for name, depths in DEPTHS.items():
        groups.append([])
        for depth in depths:
            position = positions[ROLES[name]]
            site = {"component": "z", "layer": round(depth * anatomy["n_layers"]), "heads": [0], "position": position}
            values = torch.randn(len(position), 1, anatomy["d_head"], generator=generator)
            groups[-1].append(len(patches))
            patches.append({**site, "values": values})
    return patches, [[], list(range(len(patches))), *groups]


def sites_of(patches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where patches are."""
    return [{name: value for name, value in patch.items() if name != "values"} for patch in patches]
