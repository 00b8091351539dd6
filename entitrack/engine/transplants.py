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
from entitrack.engine.answers import Prompts, verdict
from entitrack.engine.masks import Group, Pairs, Prepared, piece_logits, prepare
from entitrack.engine.runs import look


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
            since all of a part are run from the first position that one of them has. A part of sets without heads is
            the model itself.
        chunk_tokens: At most this many tokens go through the model at once.

    Returns:
        `prediction` `[set, batch]`, the most likely token, part after part; `probability` `[set, batch]`, of the right
        answer, float32; `own` `[batch]`, the model's own most likely token.
    """
    batch: Pairs = {"clean": prompts, "sources": [], "targets": prompts["answers"][None]}
    answered, own = [], None
    with torch.no_grad():
        for sets in moved:
            used = sets.any(0).nonzero().flatten()
            if not len(used):
                alone = verdict(look(model, anatomy, prompts, {}), prompts["answers"])
                own = alone["prediction"]
                answered.append({name: alone[name].expand(len(sets), -1) for name in ("prediction", "probability")})  # type: ignore[literal-required]
                continue
            group: Group = {
                "heads": [heads[number] for number in used.tolist()],
                "positions": positions[used],
                "source_positions": positions[used][None],
                "values": values[:, used][None],
            }
            (prepared,) = prepare(model, anatomy, [group], batch, [0] * len(sets), chunk_tokens)
            masks = (~sets[:, used]).to(values.dtype)
            answered.append(_verdicts_under(model, anatomy, prepared, masks, prompts["answers"]))
            own = prepared["own"]
    assert own is not None
    joined = {name: torch.cat([part[name] for part in answered]) for name in ("prediction", "probability")}
    return {**joined, "own": own}


def _verdicts_under(
    model: Any,
    anatomy: Anatomy,
    prepared: Prepared,
    masks: Float[Tensor, "mask head"],
    answers: Int[Tensor, " batch"],
) -> dict[str, Tensor]:
    """How prompts are answered under masks, `[mask, batch]`."""
    rows = torch.cat([piece["layout"]["rows"] for piece in prepared["pieces"]])
    pieces = [
        verdict(piece_logits(model, anatomy, prepared, piece, masks), answers[piece["layout"]["rows"]])
        for piece in prepared["pieces"]
    ]
    # Prompts of one length go together, so pieces have them in another order than the batch.
    order = rows.argsort().to(pieces[0]["prediction"].device)
    prediction = torch.cat([piece["prediction"].T for piece in pieces], 1)[:, order]
    probability = torch.cat([piece["probability"].T for piece in pieces], 1)[:, order]
    return {"prediction": prediction, "probability": probability}
