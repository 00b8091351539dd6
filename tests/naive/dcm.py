"""Desiderata-based component masking by its definition: whole sequences, all layers, plain autograd."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .hooks import Heads, editing
from .layouts import Layout
from .patching import z_by_layer
from .prompts import Group, Positions, Prompts


@dataclass(frozen=True)
class Desideratum:
    """Pairs of prompts, where each one's role is, and what the base prompt should then answer.

    Attributes:
        base: the prompts that are run.
        source: the counterfactuals whose z is put in where the mask is 0.
        source_positions: the role's position in each source prompt, its own and not the base's.
        last: each base prompt's last index.
        targets: the token each base prompt should answer with the source's z in place.
    """

    base: Prompts
    source: Prompts
    source_positions: Positions
    last: Positions
    targets: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Training:
    """What a run of `train_mask` went through, a row per step.

    Attributes:
        masks: the mask after each step, before the next step's clamp: it may lie outside [0, 1] by one step.
        losses: the loss that step's gradient came from.
    """

    masks: Float[Tensor, "step head"]
    losses: Float[Tensor, " step"]


def masked_logits(
    model: Any,
    layout: Layout,
    data: Desideratum,
    group: Group,
    mask: Float[Tensor, " head"],
    source_z: dict[int, Heads],
) -> Float[Tensor, "batch vocab"]:
    """Run the base prompts with mask * (own z) + (1 - mask) * (source z) at the group's heads and role."""
    rows = torch.arange(len(data.base))

    def mix(layer: int, z: Heads) -> Heads:
        mixed = z.clone()
        for keep, (head_layer, head) in zip(mask, group.heads, strict=True):
            if head_layer == layer:
                own = z[rows, group.positions, head]
                other = source_z[layer][rows, data.source_positions, head]
                mixed[rows, group.positions, head] = keep * own + (1 - keep) * other
        return mixed

    with editing(model, layout, "z", mix):
        return data.base.logits_at(model, data.last)


def _rows(data: Desideratum, group: Group, rows: slice) -> tuple[Desideratum, Group]:
    """Return one batch of the pairs, and the group with its positions in that batch."""
    part = Desideratum(
        data.base[rows], data.source[rows], data.source_positions[rows], data.last[rows], data.targets[rows]
    )
    return part, Group(group.heads, group.positions[rows])


def train_mask(
    model: Any,
    layout: Layout,
    data: Desideratum,
    group: Group,
    batches: Sequence[slice],
    steps: int,
    *,
    learning_rate: float = 0.1,
    sparsity: float = 0.01,
) -> Training:
    """Learn which heads of `group` carry the desideratum: 1 keeps a head's own z, 0 takes the source's.

    Each step takes the next of `batches`, round and round: clamp the mask to [0, 1], then loss = -(mean logit
    of the targets) + sparsity * sum(1 - mask), then one step of Adam. The mask starts at 1. Freeze the
    weights of `model` first, or they collect gradients.
    """
    mask = torch.ones(len(group.heads), requires_grad=True)
    optimizer = torch.optim.Adam([mask], lr=learning_rate)
    masks, losses = [], []
    for step in range(steps):
        part, part_group = _rows(data, group, batches[step % len(batches)])
        source_z = z_by_layer(model, layout, part.source)
        with torch.no_grad():
            mask.clamp_(0, 1)

        logits = masked_logits(model, layout, part, part_group, mask, source_z)
        target_logits = logits[torch.arange(len(part.base)), part.targets]
        loss = -target_logits.mean() + sparsity * (1 - mask).sum()

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        masks.append(mask.detach().clone())
        losses.append(loss.detach())
    return Training(torch.stack(masks), torch.stack(losses))
