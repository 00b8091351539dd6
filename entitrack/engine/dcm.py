"""Training masks over a group's heads (paper, section 5; Davies et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, unembed_words
from entitrack.engine.elsewhere import takes_gradients
from entitrack.engine.masks import Group, Pairs, Prepared, answers_under, prepare, run_piece, targets_of

HALF = 0.5
"""Masks below round to 0."""


@takes_gradients
def train_masks(
    model: Any,
    anatomy: Anatomy,
    heads: list[list[int]],
    batches: list[Pairs],
    validation: list[Pairs],
    draws: list[int],
    sparsity: list[float],
    steps: int,
    learning_rate: float,
    validate_after: list[int],
    patience: int,
    borrow_positions: bool,
    gib: float | None,
) -> dict[str, Tensor]:
    """Train several masks over the same prompts, in one go; none depends on which others are trained along.

    A step: clamp the mask to [0, 1]; loss = -(mean logit of the targets) + sparsity * sum(1 - mask); one step of Adam.
    Masks start at 1, which keeps every head's own z.

    Args:
        model: The model.
        anatomy: Its anatomy.
        heads: The group's heads, in the order of the masks.
        batches: Training batches, used in turn, with the heads' positions.
        validation: Validation batches.
        draws: For each mask, the number of its draw of counterfactuals.
        sparsity: For each mask, the weight of the number of heads taken from the counterfactual.
        steps: At most this many steps.
        learning_rate: Of Adam.
        validate_after: Numbers of steps, from 1, after which the rounded masks are tried on the validation batches.
        patience: Evaluations without a better accuracy after which a mask is done, counted from when it can have moved
            by half: before that it rounds to nothing but ones; 0: never.
        borrow_positions: Validate at the positions of the last training batch, as was published.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        `masks` `[step, mask, head]` after each step, before the next clamp; `losses` `[step, mask]`;
        `validated` `[evaluation, mask]`, accuracies; `validated_at` `[evaluation]`, steps;
        `kept` `[mask, head]`, the rounded mask of the best accuracy until it was done, of the larger set on a tie;
        `kept_accuracy` `[mask]`, that accuracy.
    """
    masks = torch.ones(len(draws), len(heads), device=model.device, requires_grad=True)
    weights = torch.tensor(sparsity, device=masks.device)
    optimizer = torch.optim.Adam([masks], lr=learning_rate)
    best = start_choice(masks)
    history: dict[str, list[Tensor]] = {"masks": [], "losses": [], "validated": [], "validated_at": []}
    ready: dict[int, Prepared] = {}
    ready_validation: list[Prepared] = []
    for step in range(steps):
        number = step % len(batches)
        if number not in ready:
            ready[number] = prepare_group(model, anatomy, heads, batches[number], draws, gib)
        history["losses"].append(take_step(model, anatomy, ready[number], masks, weights, optimizer))
        history["masks"].append(masks.detach().clone())
        if step + 1 not in validate_after:
            continue
        if borrow_positions or not ready_validation:
            lent = [borrow(batch, batches[number]) if borrow_positions else batch for batch in validation]
            ready_validation = [prepare_group(model, anatomy, heads, batch, draws, gib) for batch in lent]
        rounded = masks.detach().clamp(0, 1).round()
        history["validated"].append(validate(model, anatomy, ready_validation, rounded))
        history["validated_at"].append(torch.tensor(step + 1))
        choose(best, rounded, history["validated"][-1], patience, early=(step + 1) * learning_rate < HALF)
        if not best["active"].any():
            break
    kept = {"kept": best["masks"], "kept_accuracy": best["accuracy"]}
    return {name: torch.stack(values) for name, values in history.items()} | kept


def take_step(
    model: Any,
    anatomy: Anatomy,
    prepared: Prepared,
    masks: Float[Tensor, "mask head"],
    weights: Float[Tensor, " mask"],
    optimizer: torch.optim.Optimizer,
) -> Float[Tensor, " mask"]:
    """One step of every mask on one batch, clamped before it; returns the losses."""
    with torch.no_grad():
        masks.clamp_(0, 1)
    losses = accumulate(model, anatomy, prepared, masks, weights)
    optimizer.step()
    return losses


def prepare_group(
    model: Any, anatomy: Anatomy, heads: list[list[int]], batch: Pairs, draws: list[int], gib: float | None
) -> Prepared:
    """`prepare` for one group, whose positions come with the batch."""
    positions, source_positions = batch["positions"], batch["source_positions"]
    group: Group = {"heads": heads, "positions": positions, "source_positions": source_positions}
    layers = anatomy["n_layers"] - min(layer for layer, _ in heads)
    return next(prepare(model, anatomy, [group], batch, draws, gib, layers))


def accumulate(
    model: Any,
    anatomy: Anatomy,
    prepared: Prepared,
    masks: Float[Tensor, "mask head"],
    weights: Float[Tensor, " mask"],
) -> Float[Tensor, " mask"]:
    """Leave the gradient of every mask's loss in `masks.grad`, piece by piece; returns the losses."""
    count = prepared["targets"].shape[1]
    losses = weights * (1 - masks).sum(1)
    gradient = torch.autograd.grad(losses.sum(), masks)[0]
    losses = losses.detach()
    for piece in prepared["pieces"]:
        targets = targets_of(prepared, piece)

        def target_logits(hidden: Tensor, targets: Tensor = targets) -> Tensor:
            return unembed_words(model, anatomy, hidden, targets[..., None])[..., 0]

        found = run_piece(model, anatomy, prepared["cache"], piece, masks, target_logits)
        gained = -found.sum(0).to(masks.device) / count
        gradient = gradient + torch.autograd.grad(gained.sum(), masks)[0]
        losses = losses + gained.detach()
    masks.grad = gradient
    return losses


def validate(
    model: Any, anatomy: Anatomy, ready: list[Prepared], masks: Float[Tensor, "mask head"]
) -> Float[Tensor, " mask"]:
    """Share of targets answered under each mask."""
    right = []
    with torch.no_grad():
        for prepared in ready:
            prediction, _ = answers_under(model, anatomy, prepared, masks)
            right.append(prediction == prepared["targets"][prepared["draws"]].to(prediction.device))
    return torch.cat(right, 1).float().mean(1).to(masks.device)


def borrow(batch: Pairs, lender: Pairs) -> Pairs:
    """The batch with another's positions, row by row, clean and counterfactual."""
    count = batch["targets"].shape[1]
    turn = torch.arange(count, device=batch["targets"].device) % lender["targets"].shape[1]
    positions, source_positions = lender["positions"][..., turn], lender["source_positions"][..., turn]
    return {**batch, "positions": positions, "source_positions": source_positions}


def start_choice(masks: Float[Tensor, "mask head"]) -> dict[str, Tensor]:
    """The best masks so far: none yet."""
    count = len(masks)
    return {
        "masks": torch.ones_like(masks).detach(),
        "accuracy": torch.full((count,), -1.0, device=masks.device),
        "size": torch.full((count,), -1.0, device=masks.device),
        "waited": torch.zeros(count, dtype=torch.long, device=masks.device),
        "active": torch.ones(count, dtype=torch.bool, device=masks.device),
    }


def choose(
    best: dict[str, Tensor],
    rounded: Float[Tensor, "mask head"],
    accuracy: Float[Tensor, " mask"],
    patience: int,
    early: bool,
) -> None:
    """Keep, of the masks that are not done, those that are better: more targets, or as many with more heads.

    Evaluations that are `early` do not count against `patience`.
    """
    size = (1 - rounded).sum(1)
    better = (accuracy > best["accuracy"]) | ((accuracy == best["accuracy"]) & (size > best["size"]))
    raised = accuracy > best["accuracy"]
    better &= best["active"]
    best["waited"] = torch.where(raised | early, 0, best["waited"] + 1)
    best["masks"] = torch.where(better[:, None], rounded, best["masks"])
    best["accuracy"] = torch.where(better, accuracy, best["accuracy"])
    best["size"] = torch.where(better, size, best["size"])
    if patience:
        best["active"] = best["active"] & (best["waited"] < patience)
