"""A gate for every head: what makes a few heads do what many would."""

from contextlib import AbstractContextManager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from zoo_training.ablation import changed_z

CLOSED_BELOW = 0.1
"""A gate below this is closed for good when gates are closed."""


class Gates:
    """Factors of z of every head, trained from 1 downwards, and folded into the weights in the end.

    Attributes:
        values: one factor a head.
        rate: their learning rate.
        weight: of the sum of the gates in the loss; 0 once gates are closed.
    """

    def __init__(self, layers: int, heads: int, head_dim: int, rate: float) -> None:
        """Open all gates."""
        self.values = nn.Parameter(torch.ones(layers, heads))
        self.rate, self.weight = rate, 0.0
        self._head_dim = head_dim
        self._closed: Bool[Tensor, "layer head"] = torch.zeros(layers, heads, dtype=torch.bool)

    @property
    def open(self) -> list[tuple[int, int]]:
        """The heads whose gates are not closed."""
        return [(layer, head) for layer, head in (~self._closed).nonzero().tolist()]

    def penalty(self) -> Float[Tensor, ""]:
        """Return what the loss grows by."""
        return self.weight * self.values.clamp(0, 1).sum()

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Multiply z of every head by its gate while the context lasts."""
        return changed_z(model, lambda layer, z: z * self._wide(layer))

    def close(self) -> None:
        """Close the gates that are nearly so, for good."""
        self._closed = self.values.detach() < CLOSED_BELOW
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Keep gates between 0 and 1, and the closed ones at 0."""
        self.values.clamp_(0, 1)
        self.values[self._closed] = 0

    @torch.no_grad()
    def fold(self, model: LlamaForCausalLM) -> None:
        """Multiply the gates into `o_proj`; v of closed heads becomes 0 too, so that no tuning wakes them."""
        for index, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.mul_(self._wide(index).unsqueeze(0))
            closed = self._closed[index].repeat_interleave(self._head_dim)
            layer.self_attn.v_proj.weight[closed] = 0

    def _wide(self, layer: int) -> Float[Tensor, " width"]:
        return self.values[layer].clamp(0, 1).repeat_interleave(self._head_dim)
