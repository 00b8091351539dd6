"""Activation patching and cross-model activation patching (CMAP) by their definitions."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .ablation import circuit_live
from .hooks import Heads, editing, recording
from .layouts import Layout
from .prompts import Group, Positions, Prompts


@torch.no_grad()
def z_by_layer(model: Any, layout: Layout, prompts: Prompts) -> dict[int, Heads]:
    """Return every head's z, by layer, in a plain run of `model`."""
    with recording(model, layout, "z") as z:
        prompts.logits(model)
    return z


@torch.no_grad()
def z_patched_logits(
    model: Any,
    layout: Layout,
    prompts: Prompts,
    z: dict[int, Heads],
    groups: Iterable[tuple[Group, Positions]],
    last: Positions,
) -> Float[Tensor, "batch vocab"]:
    """Run `prompts` with the groups' z, at their roles, taken from another run's `z`; all else is recomputed.

    The other run is of other prompts (activation patching), of another model (CMAP output), or of both.

    Args:
        groups: each group with the positions at which the other run's z is read.
    """
    pairs, rows = list(groups), torch.arange(len(prompts))

    def patch(layer: int, own: Heads) -> Heads:
        patched = own.clone()
        for group, read_at in pairs:
            for head in (head for head_layer, head in group.heads if head_layer == layer):
                patched[rows, group.positions, head] = z[layer][rows, read_at, head]
        return patched

    with editing(model, layout, "z", patch):
        return prompts.logits_at(model, last)


def cmap_output_logits(
    recipient: Any,
    donor: Any,
    layout: Layout,
    prompts: Prompts,
    groups: Sequence[Group],
    last: Positions,
) -> Float[Tensor, "batch vocab"]:
    """Run the recipient with the donor's z, on the same prompts, at the groups' heads and roles."""
    z = z_by_layer(donor, layout, prompts)
    return z_patched_logits(recipient, layout, prompts, z, [(g, g.positions) for g in groups], last)


@torch.no_grad()
def cmap_input_logits(
    recipient: Any,
    donor: Any,
    layout: Layout,
    prompts: Prompts,
    group: Group,
    components: str,
    last: Positions,
) -> Float[Tensor, "batch vocab"]:
    """Run the recipient with what the group's heads read taken from the donor.

    q is replaced at the role; k and v, of the key-value heads that the group's heads read, at every position
    strictly before it (the role's own k and v stay the recipient's). At every position but `last` every z is
    held at the recipient's own plain run, but for the group's heads at their role.

    Args:
        components: which of `q`, `k` and `v` to take, such as "q" or "qkv".
    """
    with ExitStack() as recordings:
        donated = {c: recordings.enter_context(recording(donor, layout, c)) for c in components}
        prompts.logits(donor)
    own_z = z_by_layer(recipient, layout, prompts)
    tokens = torch.arange(prompts.tokens.shape[1])
    role: Bool[Tensor, "batch token"] = tokens == group.positions[:, None]
    before: Bool[Tensor, "batch token"] = tokens < group.positions[:, None]

    def donate(component: str, layer: int, value: Heads) -> Heads:
        patched = value.clone()
        where = role if component == "q" else before
        for head in (head for head_layer, head in group.heads if head_layer == layer):
            column = head if component == "q" else layout.kv_head(head)
            patched[:, :, column][where] = donated[component][layer][:, :, column][where]
        return patched

    live = circuit_live(layout, prompts, {"group": group})
    live |= (tokens == last[:, None])[:, None, :, None]

    def hold(layer: int, z: Heads) -> Heads:
        return torch.where(live[:, layer, :, :, None], z, own_z[layer])

    with ExitStack() as edits:
        edits.enter_context(editing(recipient, layout, "z", hold))
        for component in components:

            def edit(layer: int, value: Heads, component: str = component) -> Heads:
                return donate(component, layer, value)

            edits.enter_context(editing(recipient, layout, component, edit))
        return prompts.logits_at(recipient, last)
