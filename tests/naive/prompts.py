"""A batch of prompts and a full forward over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Positions = Int[Tensor, " batch"]
Head = tuple[int, int]


@dataclass(frozen=True)
class Prompts:
    """Token ids and, where rows differ in length, the mask that marks real ones (1) and padding (0)."""

    tokens: Int[Tensor, "batch token"]
    attention_mask: Int[Tensor, "batch token"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice) -> "Prompts":
        mask = None if self.attention_mask is None else self.attention_mask[rows]
        return Prompts(self.tokens[rows], mask)

    def logits(self, model: Any) -> Float[Tensor, "batch token vocab"]:
        """Run `model` over whole prompts, without a cache; positions count real tokens only.

        The mask is always passed: given position ids alone, transformers looks for packed sequences in them.
        """
        mask = torch.ones_like(self.tokens) if self.attention_mask is None else self.attention_mask
        position_ids = (mask.cumsum(-1) - 1).clamp(min=0)
        output = model(self.tokens, attention_mask=mask, position_ids=position_ids, use_cache=False)
        return output.logits

    def logits_at(self, model: Any, positions: Positions) -> Float[Tensor, "batch vocab"]:
        """Run `model` and keep the logits at one position per prompt."""
        return self.logits(model)[torch.arange(len(self)), positions]


@dataclass(frozen=True)
class Group:
    """Heads, as (layer, head), and the position of their role in each prompt."""

    heads: Sequence[Head]
    positions: Positions


def accuracy(logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"]) -> float:
    """Return the share of prompts whose highest logit is the answer's."""
    return (logits.argmax(-1) == answers).double().mean().item()
