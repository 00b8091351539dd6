"""A component without heads, moved from counterfactual to clean prompts within one model.

Replaced: the component of the layers that a group's heads are in, at the group's position, by what it is in the
counterfactual prompt at its own. Recomputed: everything after it. Frozen: nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import rows_of
from entitrack.engine.masks import Group, Pairs
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.patching import patch_visits, read_visits
from entitrack.engine.runs import logits_with, look, show
from entitrack.engine.sites import Site


def moved_answers(
    model: Any, anatomy: Anatomy, groups: list[Group], batch: Pairs, component: str, gib: float | None
) -> dict[str, Tensor]:
    """Answers with a component of each group's layers from each draw of counterfactuals.

    Args:
        model: The model.
        anatomy: Its anatomy.
        groups: The groups, each patched by itself.
        batch: The prompts.
        component: What moves.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        As `masks.masked_answers`: `prediction` and `target_logit` `[group, draw, batch]`, and `own` `[batch]`.
    """
    width = max(prompts["tokens"].shape[1] for prompts in (batch["clean"], *batch["sources"]))
    pieces = []
    numbers = torch.arange(batch["targets"].shape[1], device=batch["targets"].device)
    for rows in numbers.split(tokens_at_once(anatomy, gib, numbers.device, width, 0) // width):
        predictions, target_logits = [], []
        for draw in range(len(batch["sources"])):
            prediction, target_logit = moved_verdicts(model, anatomy, groups, batch, component, draw, rows)
            predictions.append(prediction)
            target_logits.append(target_logit)
        own = look(model, anatomy, rows_of(batch["clean"], rows), {}).argmax(-1)
        moved = {"prediction": torch.stack(predictions, 1), "target_logit": torch.stack(target_logits, 1)}
        pieces.append({**moved, "own": own})
    return {name: torch.cat([piece[name] for piece in pieces], -1) for name in ("prediction", "target_logit", "own")}


def moved_verdicts(
    model: Any,
    anatomy: Anatomy,
    groups: list[Group],
    batch: Pairs,
    component: str,
    draw: int,
    rows: Int[Tensor, " row"],
) -> tuple[Int[Tensor, "group row"], Float[Tensor, "group row"]]:
    """Most likely tokens and targets' logits of some of the prompts, with each group's layers patched from one draw."""
    positions = [group["source_positions"][draw] for group in groups]
    read_at = [site for where in zip(groups, positions, strict=True) for site in layer_sites(component, *where, rows)]
    values: dict[int, Tensor] = {}
    show(model, anatomy, rows_of(batch["sources"][draw], rows), read_visits(anatomy, read_at, values))
    clean, numbers = rows_of(batch["clean"], rows), iter(range(len(read_at)))
    targets, predictions, target_logits = batch["targets"][draw, rows], [], []
    for group in groups:
        sites = layer_sites(component, group, group["positions"], rows)
        patches: list[Any] = [{**site, "values": values[next(numbers)]} for site in sites]
        logits = logits_with(model, anatomy, clean, patch_visits(anatomy, patches)).float()
        predictions.append(logits.argmax(-1))
        target_logits.append(logits.gather(1, targets[:, None].to(logits.device))[:, 0])
    return torch.stack(predictions), torch.stack(target_logits)


def layer_sites(
    component: str, group: Group, positions: Int[Tensor, "head batch"], rows: Int[Tensor, " row"]
) -> list[Site]:
    """The component of each layer that a group's heads are in, where the first of these heads stands."""
    first_of: dict[int, int] = {}
    for number, (layer, _) in enumerate(group["heads"]):
        first_of.setdefault(layer, number)
    return [
        {"component": component, "layer": layer, "position": positions[number][rows]}
        for layer, number in first_of.items()
    ]
