"""A mask trained by the definition: hooks, whole prompts, all layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.models.family import Model

RATE, SPARSITY = 0.1, 0.01


def train_naively(
    model: Model, heads: list[list[int]], tokens: Tensor, source: Tensor, batch: dict[str, Tensor], steps: int
) -> Float[Tensor, "step head"]:
    """The mask after each step."""
    module, d_head = model.envoy._module, model.anatomy["d_head"]
    rows = torch.arange(len(tokens), device=tokens.device)
    mask = torch.ones(len(heads), device=tokens.device, requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=RATE)
    read: dict[int, Tensor] = {}
    projections = {layer: module.model.layers[layer].self_attn.o_proj for layer in sorted({la for la, _ in heads})}

    def keep(layer: int, _module: Any, args: tuple[Tensor, ...]) -> None:
        read[layer] = args[0]

    def blend(layer: int, _module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        z = args[0].clone()
        for number, (where, head) in enumerate(heads):
            if where == layer:
                columns = slice(head * d_head, (head + 1) * d_head)
                place, other = batch["positions"][number], batch["source_positions"][0, number]
                own, given = args[0][rows, place, columns], read[layer][rows, other, columns]
                z[rows, place, columns] = (mask[number] * own + (1 - mask[number]) * given).to(z.dtype)
        return (z,)

    hooks = [entry.register_forward_pre_hook(partial(keep, layer)) for layer, entry in projections.items()]
    with torch.no_grad():
        module(source, use_cache=False)
    for hook in hooks:
        hook.remove()
    hooks = [entry.register_forward_pre_hook(partial(blend, layer)) for layer, entry in projections.items()]
    masks = []
    for _ in range(steps):
        with torch.no_grad():
            mask.clamp_(0, 1)
        logits = module(tokens, use_cache=False).logits[rows, -1].float()
        loss = -logits[rows, batch["targets"][0]].mean() + SPARSITY * (1 - mask).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        masks.append(mask.detach().cpu().clone())
    for hook in hooks:
        hook.remove()
    return torch.stack(masks)
