"""Mean ablation by its definition: faithfulness, completeness, minimality; a full forward per circuit."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .hooks import Heads, editing, recording
from .layouts import Layout
from .prompts import Group, Head, Positions, Prompts, accuracy

Means = Float[Tensor, "layer token head d_head"]
Live = Bool[Tensor, "batch layer token head"]
"""True where a head keeps the z it computes, False where it takes its mean at that token index."""
Circuit = Mapping[str, Group]


@torch.no_grad()
def mean_z(model: Any, layout: Layout, prompts: Prompts) -> Means:
    """Return each head's mean z at each token index over `prompts`, which must all have one length."""
    with recording(model, layout, "z") as z:
        prompts.logits(model)
    return torch.stack([z[layer].mean(0) for layer in range(layout.n_layers)])


@torch.no_grad()
def ablated_logits(
    model: Any, layout: Layout, prompts: Prompts, means: Means, live: Live, last: Positions
) -> Float[Tensor, "batch vocab"]:
    """Run with every head that is not `live` at a token replaced by its mean there."""

    def ablate(layer: int, z: Heads) -> Heads:
        return torch.where(live[:, layer, :, :, None], z, means[layer])

    with editing(model, layout, "z", ablate):
        return prompts.logits_at(model, last)


def circuit_live(layout: Layout, prompts: Prompts, circuit: Circuit) -> Live:
    """Only the circuit's heads are live, each at its own group's role; all else takes its mean."""
    rows, n_tokens = torch.arange(len(prompts)), prompts.tokens.shape[1]
    live = torch.zeros(len(prompts), layout.n_layers, n_tokens, layout.n_heads, dtype=torch.bool)
    for group in circuit.values():
        for layer, head in group.heads:
            live[rows, layer, group.positions, head] = True
    return live


def model_minus_live(layout: Layout, prompts: Prompts, removed: Circuit) -> Live:
    """Every head is live everywhere, but the removed ones, which take their mean at their role only."""
    return ~circuit_live(layout, prompts, removed)


def without(circuit: Circuit, group: str, heads: Sequence[Head]) -> dict[str, Group]:
    """Return `circuit` less `heads` of `group`; the same heads stay live in any other group that has them."""
    kept = [head for head in circuit[group].heads if head not in heads]
    return {**circuit, group: Group(kept, circuit[group].positions)}


def pair_accuracies(
    model: Any,
    layout: Layout,
    prompts: Prompts,
    answers: Int[Tensor, " batch"],
    means: Means,
    circuit: Circuit,
    group: str,
    heads: Sequence[Head],
    last: Positions,
    *,
    compat_paper: bool = False,
) -> dict[tuple[Head, Head], float]:
    """Return the circuit's accuracy without each ordered pair of `heads` of `group` (diagonal: without one).

    Args:
        compat_paper: as published: two heads with the same index in different layers are never removed
            together (the pair's first is removed alone), and accuracies are rounded to two decimals.
    """
    table: dict[tuple[Head, Head], float] = {}
    for first in heads:
        for second in heads:
            same_index = compat_paper and first[1] == second[1]
            removed = [first] if same_index else [first, second]
            live = circuit_live(layout, prompts, without(circuit, group, removed))
            found = accuracy(ablated_logits(model, layout, prompts, means, live, last), answers)
            table[first, second] = round(found, 2) if compat_paper else found
    return table
