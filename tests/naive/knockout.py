"""Attention knockout by its definition: one full forward per first blocked layer."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .hooks import editing_attention_mask
from .layouts import Layout
from .prompts import Positions, Prompts, accuracy


@torch.no_grad()
def knockout_logits(
    model: Any,
    layout: Layout,
    prompts: Prompts,
    source: Positions,
    target: Positions,
    first_layer: int,
    last: Positions,
) -> Float[Tensor, "batch vocab"]:
    """Run with no head of layers `first_layer` and later able to attend from `source` to `target`.

    The blocked entry of the additive mask takes the value the model itself gives to masked ones, the lowest
    of its dtype. A `target` after its `source` is masked already; where they are equal, a token no longer
    sees itself.

    Args:
        first_layer: 0 blocks all layers, `layout.n_layers` none.
    """
    rows = torch.arange(len(prompts))

    def block(layer: int, mask: Tensor) -> Tensor:
        if layer < first_layer:
            return mask
        blocked = mask.expand(len(prompts), *mask.shape[1:]).clone()
        blocked[rows, :, source, target] = torch.finfo(mask.dtype).min
        return blocked

    with editing_attention_mask(model, layout, block):
        return prompts.logits_at(model, last)


def knockout_accuracies(
    model: Any,
    layout: Layout,
    prompts: Prompts,
    answers: Int[Tensor, " batch"],
    source: Positions,
    target: Positions,
    last: Positions,
) -> list[float]:
    """Return the accuracy by first blocked layer, 0 to `n_layers`; the last entry is the whole model's."""
    return [
        accuracy(knockout_logits(model, layout, prompts, source, target, first_layer, last), answers)
        for first_layer in range(layout.n_layers + 1)
    ]
