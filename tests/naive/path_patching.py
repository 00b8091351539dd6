"""Path patching by its definition: two full forwards per sender head (Prakash et al. 2024, section 3).

For a sender head at a position t: run the clean prompt with every head's z at positions t..last held at its
clean value, except the sender's at t, which takes its counterfactual value; MLPs are recomputed. Record what
the receivers compute at t in that run. Then run the clean prompt with only the receivers' values replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .hooks import Heads, editing, recording
from .layouts import Layout
from .prompts import Head, Positions, Prompts


@dataclass(frozen=True)
class Receivers:
    """Heads whose `component` (`q`, `k` or `v`) the sender acts through; of `k` and `v`, key-value heads."""

    component: str
    heads: Sequence[Head]


@dataclass(frozen=True)
class Path:
    """One stage: where the sender is, where its counterfactual value is read, and what it acts through.

    Attributes:
        positions: t, the sender's position in each clean prompt; the receivers' too.
        counterfactual_positions: where each counterfactual prompt's z is read.
        last: the position of each clean prompt's last token, where the answer is predicted.
        receivers: None for the logits themselves.
    """

    positions: Positions
    counterfactual_positions: Positions
    last: Positions
    receivers: Receivers | None = None


def answer_probability(logits: Float[Tensor, "batch vocab"], answers: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return each prompt's probability of its answer."""
    return logits.softmax(-1)[torch.arange(len(answers)), answers]


@torch.no_grad()
def path_effects(
    model: Any,
    layout: Layout,
    clean: Prompts,
    counterfactual: Prompts,
    answers: Int[Tensor, " batch"],
    path: Path,
    senders: Sequence[Head] | None = None,
) -> Float[Tensor, "batch layer head"]:
    """Return (p_patched - p_clean) / p_clean of the answer per prompt and sender; NaN where not asked for."""
    with recording(model, layout, "z") as clean_z:
        clean_probability = answer_probability(clean.logits_at(model, path.last), answers)
    with recording(model, layout, "z") as counterfactual_z:
        counterfactual.logits(model)

    every_head = [(layer, head) for layer in range(layout.n_layers) for head in range(layout.n_heads)]
    effects = torch.full((len(clean), layout.n_layers, layout.n_heads), torch.nan)
    for layer, head in every_head if senders is None else senders:
        sender_z = _sender_z(clean_z, counterfactual_z, (layer, head), path)
        logits = _through_path(model, layout, clean, sender_z, path)
        effects[:, layer, head] = answer_probability(logits, answers) / clean_probability - 1
    return effects


def _sender_z(
    clean_z: dict[int, Heads], counterfactual_z: dict[int, Heads], sender: Head, path: Path
) -> dict[int, Heads]:
    """Return the z to hold: clean everywhere, but the sender's counterfactual value at its position."""
    layer, head = sender
    rows = torch.arange(len(path.positions))
    held = clean_z[layer].clone()
    held[rows, path.positions, head] = counterfactual_z[layer][rows, path.counterfactual_positions, head]
    return clean_z | {layer: held}


def _through_path(
    model: Any, layout: Layout, clean: Prompts, sender_z: dict[int, Heads], path: Path
) -> Float[Tensor, "batch vocab"]:
    """Run the sender's run, then the receivers' run; return the logits at `last` of the latter."""
    tokens = torch.arange(clean.tokens.shape[1])
    held: Bool[Tensor, "batch token"] = (tokens >= path.positions[:, None]) & (tokens <= path.last[:, None])

    def hold(layer: int, z: Heads) -> Heads:
        return torch.where(held[:, :, None, None], sender_z[layer], z)

    with editing(model, layout, "z", hold):
        if path.receivers is None:
            return clean.logits_at(model, path.last)
        with recording(model, layout, path.receivers.component) as received:
            clean.logits(model)

    receivers, rows = path.receivers, torch.arange(len(clean))

    def replace(layer: int, value: Heads) -> Heads:
        patched = value.clone()
        for head in (head for receiver_layer, head in receivers.heads if receiver_layer == layer):
            patched[rows, path.positions, head] = received[layer][rows, path.positions, head]
        return patched

    with editing(model, layout, receivers.component, replace):
        return clean.logits_at(model, path.last)
