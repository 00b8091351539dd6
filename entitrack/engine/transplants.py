"""What a model answers with another's z in many sets of its heads, at the cost of what they can change (section 6).

Replaced: z of sets of heads at their positions, by values that are given. Recomputed: the tokens from the first of
these positions on, in the layers from the first of these heads on. Frozen: nothing. `patching.answer_patched` is the
same for one set after another, of any components.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Prompts
from entitrack.engine.masks import Group, Pairs, answers_under, prepare


def transplanted_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    heads: list[list[int]],
    positions: Int[Tensor, "head batch"],
    values: Float[Tensor, "batch head d_head"],
    moved: list[Bool[Tensor, "_ head"]],
    chunk_tokens: int,
) -> dict[str, Tensor]:
    """Answers with every set of heads replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        heads: Each `[layer, head]`; one that is replaced at several positions is there several times.
        positions: Where each is replaced.
        values: What its z becomes.
        moved: Which of them each set has, `[set, head]`; sets that are near each other in their positions go together,
            since all of a part are run from the first position that one of them has.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction` `[set, batch]`, the most likely token, part after part; `own` `[batch]`, the model's own.
    """
    batch: Pairs = {"clean": prompts, "sources": [], "targets": prompts["answers"][None]}
    predictions, own = [], None
    with torch.no_grad():
        for sets in moved:
            used = sets.any(0).nonzero().flatten()
            group: Group = {
                "heads": [heads[number] for number in used.tolist()],
                "positions": positions[used],
                "source_positions": positions[used][None],
                "values": values[:, used][None],
            }
            (prepared,) = prepare(model, anatomy, [group], batch, [0] * len(sets), chunk_tokens)
            prediction, _ = answers_under(model, anatomy, prepared, (~sets[:, used]).to(values.dtype))
            predictions.append(prediction)
            own = prepared["own"]
    assert own is not None
    return {"prediction": torch.cat(predictions), "own": own}
