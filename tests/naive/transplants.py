"""Another model's z in some heads, put in with hooks, whole forward passes, one set of heads after another."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .hooks import editing, recording
from .layouts import layout_of
from .prompts import Positions, Prompts

HeadsByRole = Mapping[str, Sequence[tuple[int, int]]]
"""Role to its heads, each (layer, head)."""


@torch.no_grad()
def transplanted_logits(
    recipient: Any, donor: Any, prompts: Prompts, heads: HeadsByRole, positions: Mapping[str, Positions]
) -> Float[Tensor, "batch vocab"]:
    """Logits at the last token of the recipient with the donor's z of heads at their roles."""
    layout, rows = layout_of(recipient), torch.arange(len(prompts))
    with recording(donor, layout_of(donor), "z") as theirs:
        prompts.logits(donor)

    def put(layer: int, z: Tensor) -> Tensor:
        patched = z.clone()
        for role, listed in heads.items():
            for head in [head for where, head in listed if where == layer]:
                patched[rows, positions[role], head] = theirs[layer][rows, positions[role], head]
        return patched

    with editing(recipient, layout, "z", put):
        return prompts.logits_at(recipient, positions["last"])
