"""What a model answers when all its heads work, but only at some positions (found when a role was missing).

Replaced: every head's z at the other positions. Recomputed: everything at the live ones. Frozen: nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.engine.ablation import ablate_everything, fill_values, final_outcomes, put_outcomes
from entitrack.engine.packing import pack_inputs, run_layers
from entitrack.engine.sites import Anatomy


def live_position_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: dict[str, Tensor],
    fill: dict[str, Tensor],
    slots: Int[Tensor, "candidate batch place"],
    live: Bool[Tensor, "candidate place"],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Answers for candidate sets of positions, all of one size.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding; `answers`, `rivals`, see `outcomes`.
        fill: What ablated heads take, see `fill_values`.
        slots: Token indices of each candidate in each prompt, ascending; the last is the prompt's last token.
        live: Which of them are live: the last token is always run, live or not.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction`, `probability`, `margin`, each `[candidate, batch]`, see `outcomes`.
    """
    fills = fill_values(model, anatomy, fill)
    state = ablate_everything(model, anatomy, prompts, fills, slots[0, :, -1:])
    shape = (slots.shape[0], slots.shape[1])
    heads = live[:, :, None, None].expand(-1, -1, anatomy["n_layers"], anatomy["n_heads"])
    results: dict[str, Tensor] = {}
    most = max(1, chunk_tokens // slots.shape[2])
    for chunk in torch.arange(shape[0], device=slots.device).split(most):
        for rows in torch.arange(shape[1], device=slots.device).split(max(1, most // len(chunk))):
            given = {name: values[rows] for name, values in prompts.items()}
            places = slots[chunk][:, rows].transpose(0, 1)
            inputs = pack_inputs(model, anatomy, given["tokens"], places, len(chunk), state, rows, 0)
            run = {"rows": rows, "live": heads[chunk], "start": -1}
            with torch.no_grad(), model.trace(inputs["forward"], use_cache=True) as tracer:
                done = run_layers(model, anatomy, fills, inputs, run)
                found = final_outcomes(model, anatomy, done["hidden"], given, chunk_tokens)
                tracer.stop()
            put_outcomes(results, shape, chunk, rows, found)
    return results
