"""Read and replace z, the input of `o_proj`: to regularise towards roles, and to measure what that did."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Change = Callable[[int, Float[Tensor, "row position width"]], Float[Tensor, "row position width"]]
"""Takes a layer and the z of all its heads side by side, and returns what goes on instead."""


@contextmanager
def changed_z(model: nn.Module, change: Change) -> Iterator[None]:
    """Replace z of every layer while the context lasts; everything after z is recomputed from it."""

    def hook_of(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda _, inputs: (change(layer, inputs[0]), *inputs[1:])

    projections = [module for name, module in model.named_modules() if name.endswith("self_attn.o_proj")]
    if not projections:
        raise ValueError(f"{type(model).__name__} has no self_attn.o_proj: only Llamas are in the family")
    handles = [module.register_forward_pre_hook(hook_of(layer)) for layer, module in enumerate(projections)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def only_roles_live(
    model: nn.Module,
    roles: Int[Tensor, "row role"],
    mean: Float[Tensor, "layer position width"] | None = None,
) -> AbstractContextManager[None]:
    """Replace every head's z outside the roles by a mean.

    Args:
        model: a Llama, with or without an adapter.
        roles: the positions of each row that keep their own z.
        mean: mean z of each layer and position; None takes the mean over the batch itself.
    """

    def change(layer: int, z: Tensor) -> Tensor:
        replacement = z.mean(0, keepdim=True) if mean is None else mean[layer, : z.shape[1]].unsqueeze(0)
        live = torch.zeros(z.shape[:2], dtype=torch.bool).scatter(1, roles, True)
        return torch.where(live.unsqueeze(-1), z, replacement)

    return changed_z(model, change)


def transplanted_last(
    model: nn.Module, donor_z: Float[Tensor, "layer row position width"]
) -> AbstractContextManager[None]:
    """Replace every head's z at the last position by the donor's on the same prompts."""

    def change(layer: int, z: Tensor) -> Tensor:
        return torch.cat([z[:, :-1], donor_z[layer][:, -1:]], dim=1)

    return changed_z(model, change)


@torch.no_grad()
def record_z(model: nn.Module, tokens: Int[Tensor, "row position"]) -> Float[Tensor, "layer row position width"]:
    """Return z of every layer on some prompts; nothing is replaced."""
    seen: list[Tensor] = []

    def change(layer: int, z: Tensor) -> Tensor:
        seen.append(z)
        return z

    with changed_z(model, change):
        model(tokens, use_cache=False)
    return torch.stack(seen)
