"""Attention knockout: what a model answers when one position can no longer see another (paper, section 4.1).

From layer k on, no head attends from the source to the target. Below layer k nothing has changed, and neither has
anything before the source; so each k is a rerun of the source and what follows it, from layer k on, over the model's
own keys and values.

Replaced: one entry of the attention mask. Recomputed: the suffix. Frozen: nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Outcomes, Prompts, final_outcomes, outcomes, rows_of
from entitrack.engine.caches import Run
from entitrack.engine.layout import Layout, at_slots, lay_out, prefix_cache
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.rerun import rerun
from entitrack.engine.runs import run_prompts


def knockout_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    source: Int[Tensor, " batch"],
    targets: Int[Tensor, "target batch"],
    gib: float | None,
) -> dict[str, Tensor]:
    """Answers when the source cannot see each of the targets, by the first layer where it cannot.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts, with `rivals`.
        source: Position that attends.
        targets: Positions before it, one blocked at a time.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        Outcomes, each `[target, first layer, batch]`; the last of the `n_layers + 1` first layers blocks none.
    """
    layers = range(anatomy["n_layers"])
    run = run_prompts(model, anatomy, prompts, streams=layers, z=())
    unblocked = outcomes(run["logits"][:, None], prompts)
    results: dict[str, Tensor] = {}
    for name in ("prediction", "probability", "margin"):
        values = unblocked[name][:, 0]  # type: ignore[literal-required]
        results[name] = values.expand(len(targets), anatomy["n_layers"] + 1, -1).clone()
    lengths = prompts["last"] - source + 1
    for length in lengths.unique().tolist():
        members = (lengths == length).nonzero().flatten()
        tokens = tokens_at_once(anatomy, gib, members.device, length, prompts["tokens"].shape[1])
        for rows in members.split(tokens // length):
            slots = source[rows, None] + torch.arange(length, device=source.device)
            for target, blocked in enumerate(targets[:, rows]):
                layout = lay_out(anatomy, prompts, rows, slots[:, None], 1, run["keys"][0].dtype, blocked)
                for first in layers:
                    answered = answer_from(model, anatomy, prompts, run, layout, first, gib)
                    for name, values in results.items():
                        values[target, first, rows.to(values.device)] = answered[name][:, 0]  # type: ignore[literal-required]
    return results


def answer_from(
    model: Any, anatomy: Anatomy, prompts: Prompts, run: Run, layout: Layout, first: int, gib: float | None
) -> Outcomes:
    """Outcomes `[row, 1]` with the layout's target hidden in layer `first` and those after it."""
    asked = rows_of(prompts, layout["rows"])

    def enter() -> Tensor:
        return at_slots(run["streams"][first], layout)

    def answered(hidden: Tensor) -> Outcomes:
        return final_outcomes(model, anatomy, hidden, asked, gib)

    cache = prefix_cache(run, layout, first)
    with torch.no_grad():
        result = rerun(model, anatomy, layout, cache, first, enter, {}, answered)
    return result
