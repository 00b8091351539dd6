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
from entitrack.engine.answers import Prompts, unembedded_in_pieces, verdict
from entitrack.engine.caches import Run
from entitrack.engine.layout import lanes_and_pack
from entitrack.engine.masks import Group, given_source, make_piece, run_piece, suffix_jobs
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.runs import run_prompts


def transplanted_answers(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    heads: list[list[int]],
    positions: Int[Tensor, "head batch"],
    values: Float[Tensor, "batch head d_head"],
    moved: list[Bool[Tensor, "_ head"]],
    gib: float | None,
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
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        `prediction` `[set, batch]`, the most likely token, part after part; `probability` `[set, batch]`, of the right
        answer, float32; `own` `[batch]`, the model's own most likely token.
    """
    used = [sets.any(0).nonzero().flatten() for sets in moved]
    starts = {min(heads[number][0] for number in numbers.tolist()) for numbers in used if len(numbers)}
    answered = []
    with torch.no_grad():
        run = run_prompts(model, anatomy, prompts, starts | {start + 1 for start in starts}, starts)
        own: Any = verdict(run["logits"], prompts["answers"])
        for sets, numbers in zip(moved, used, strict=True):
            if not len(numbers):
                answered.append({name: own[name].expand(len(sets), -1) for name in ("prediction", "probability")})
                continue
            group: Group = {
                "heads": [heads[number] for number in numbers.tolist()],
                "positions": positions[numbers],
                "source_positions": positions[numbers][None],
                "values": values[:, numbers][None],
            }
            masks = (~sets[:, numbers]).to(values.dtype)
            for some in masks.split(sets_at_once(anatomy, prompts, group, gib)):
                answered.append(_verdicts_under(model, anatomy, prompts, run, group, some, gib))
    joined = {name: torch.cat([part[name] for part in answered]) for name in ("prediction", "probability")}
    return {**joined, "own": own["prediction"]}


def sets_at_once(anatomy: Anatomy, prompts: Prompts, group: Group, gib: float | None) -> int:
    """How many sets of a group go through at once, of one prompt at the least: whole lanes of them."""
    length = int((prompts["last"] - group["positions"].amin(0)).max()) + 1
    pack = lanes_and_pack(1 << 20, length)[1]
    width = prompts["mask"].shape[1]
    return tokens_at_once(anatomy, gib, prompts["last"].device, length * pack, width) // length


def _verdicts_under(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    run: Run,
    group: Group,
    masks: Float[Tensor, "mask head"],
    gib: float | None,
) -> dict[str, Tensor]:
    """How prompts are answered under masks, `[mask, batch]`."""
    results: dict[str, Tensor] = {}
    source, draws = given_source(group), [0] * len(masks)
    for job in suffix_jobs(anatomy, prompts, group["positions"], len(masks), gib):
        piece = make_piece(anatomy, prompts, group, source, run, job, draws)
        answers = prompts["answers"][job["rows"]]

        def read(logits: Tensor, rows: slice, _: slice, answers: Tensor = answers) -> dict[str, Tensor]:
            found: Any = verdict(logits, answers[rows])
            return found

        def answered(hidden: Tensor, read: Any = read) -> dict[str, Tensor]:
            return unembedded_in_pieces(model, anatomy, hidden, gib, read)

        for name, values in run_piece(model, anatomy, run["cache"], piece, masks, answered).items():
            whole = results.setdefault(name, values.new_empty(len(masks), len(prompts["answers"])))
            whole[:, job["rows"].to(whole.device)] = values.T
    return results
