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


FILLS = ("mean", "zero", "resample")
"""What may stand for z outside the roles in training: its mean over the batch, nothing, or another row's."""


def fill_of(kind: str) -> Change:
    """Return what stands for z of a batch; `resample` draws one other order of the rows for all layers.

    Raises:
        ValueError: There is no such kind.
    """
    if kind == "mean":
        return lambda _, z: z.mean(0, keepdim=True)
    if kind == "zero":
        return lambda _, z: torch.zeros_like(z[:1])
    if kind != "resample":
        raise ValueError(f"unknown fill '{kind}' in a recipe: {', '.join(FILLS)}")
    order: list[Tensor] = []

    def other_rows(_: int, z: Tensor) -> Tensor:
        if not order:
            order.append(torch.randperm(len(z)))
        return z[order[0]]

    return other_rows


def fill_with_mean(mean: Float[Tensor, "layer position width"]) -> Change:
    """Return a mean of z over other prompts, position by position."""
    return lambda layer, z: mean[layer, : z.shape[1]].unsqueeze(0)


def fill_with_rows(other: Float[Tensor, "layer row position width"]) -> Change:
    """Return z of other prompts, row by row."""
    return lambda layer, z: other[layer, : len(z)]


def only_roles_live(model: nn.Module, roles: Int[Tensor, "row role"], fill: Change) -> AbstractContextManager[None]:
    """Replace every head's z outside the roles.

    Args:
        model: a Llama, with or without an adapter.
        roles: the positions of each row that keep their own z.
        fill: what stands for z elsewhere; see `fill_of`.
    """

    def change(layer: int, z: Tensor) -> Tensor:
        live = torch.zeros(z.shape[:2], dtype=torch.bool).scatter(1, roles, True)
        return torch.where(live.unsqueeze(-1), z, fill(layer, z))

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
