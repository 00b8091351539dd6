"""What a model answers when all its heads work, but only at some positions (found when a role was missing).

Replaced: every head's z at the other positions. Recomputed: everything at the live ones. Frozen: nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.engine.ablation import Fill, ablated_visits, fill_values
from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Outcomes, Prompts, final_outcomes, put_outcomes, rows_of
from entitrack.engine.layout import lanes_and_pack, lay_out, prefix_cache
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.rerun import rerun
from entitrack.engine.runs import run_prompts


def live_position_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fill,
    slots: Int[Tensor, "candidate batch place"],
    live: Bool[Tensor, "candidate place"],
    gib: float | None,
) -> dict[str, Tensor]:
    """Answers for candidate sets of positions, all of one size.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts, without padding, with `rivals`.
        fill: What ablated heads take.
        slots: Token indices of each candidate in each prompt, ascending; the last is the prompt's last token.
        live: Which of them are live: the last token is always run, live or not.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        Outcomes, each `[candidate, batch]`.
    """
    fills = fill_values(model, anatomy, fill)
    empty = run_prompts(model, anatomy, prompts, streams=(), z=(), fills=fills)
    shape = (slots.shape[0], slots.shape[1])
    heads = live[:, :, None, None].expand(-1, -1, anatomy["n_layers"], anatomy["n_heads"])
    results: dict[str, Tensor] = {}
    lane = slots.shape[2] * lanes_and_pack(*shape[:1], slots.shape[2])[1]
    tokens = tokens_at_once(anatomy, gib, slots.device, lane, prompts["tokens"].shape[1])
    most = max(1, tokens // slots.shape[2])
    for chunk in torch.arange(shape[0], device=slots.device).split(most):
        for rows in torch.arange(shape[1], device=slots.device).split(max(1, most // len(chunk))):
            places = slots[chunk][:, rows].transpose(0, 1)
            layout = lay_out(anatomy, prompts, rows, places, len(chunk), empty["keys"][0].dtype)
            visits = ablated_visits(fills, layout, heads[chunk], 0)
            asked = rows_of(prompts, rows)

            def answered(hidden: Tensor, asked: Prompts = asked) -> Outcomes:
                return final_outcomes(model, anatomy, hidden, asked, gib)

            cache = prefix_cache(empty, layout, 0)
            with torch.no_grad():
                outcomes = rerun(model, anatomy, layout, cache, 0, None, visits, answered)
            put_outcomes(results, shape, chunk, rows, outcomes)
    return results
