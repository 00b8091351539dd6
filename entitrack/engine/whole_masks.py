"""Clean and other z mixed under masks, where no cache can be handed in: see `masks` and `transplants`.

Variants stand as slots behind their prompts (`slots`), from the embeddings on. Replaced and recomputed is what is
there; nothing is made once for several tries of a mask, since masks are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Prompts, verdict
from entitrack.engine.elsewhere import stream_dtype
from entitrack.engine.layout import lay_out
from entitrack.engine.masks import Group, Pairs, given_source, make_mixtures, mix, read_sources
from entitrack.engine.runs import logits_with
from entitrack.engine.sites import Visit
from entitrack.engine.slots import run_behind, slot_passes


def masked_answers(
    model: Any,
    anatomy: Anatomy,
    groups: list[Group],
    batch: Pairs,
    masks: list[Float[Tensor, "mask _"]],
    draws: list[int],
    gib: float | None,
) -> dict[str, Tensor]:
    """See `masks.masked_answers`."""
    if all("values" in group for group in groups):
        sources = [given_source(group) for group in groups]
    else:
        sources = read_sources(model, anatomy, groups, batch["sources"])
    targets, dtype = batch["targets"], stream_dtype(model, anatomy)
    own = logits_with(model, anatomy, batch["clean"], {}).argmax(-1)
    predictions, target_logits = [], []
    for group, source, mask in zip(groups, sources, masks, strict=True):
        prediction = own[None].repeat(len(mask), 1)
        target_logit = torch.empty(prediction.shape, device=own.device)
        passes = mixed_logits(model, anatomy, batch["clean"], group, source, mask, draws, gib, dtype)
        for part, rows, logits in passes:
            where = part[:, None].to(own.device), rows[None].to(own.device)
            prediction[where] = logits.argmax(-1).T
            wanted = targets[[draws[number] for number in part.tolist()]][:, rows].T[..., None]
            target_logit[where] = logits.gather(-1, wanted.to(logits.device)).squeeze(-1).T
        predictions.append(prediction)
        target_logits.append(target_logit)
    return {"prediction": torch.stack(predictions), "target_logit": torch.stack(target_logits), "own": own}


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
    """See `transplants.transplanted_answers`."""
    dtype = stream_dtype(model, anatomy)
    alone = verdict(logits_with(model, anatomy, prompts, {}), prompts["answers"])
    answered = []
    for sets in moved:
        found: Any = {name: alone[name][None].repeat(len(sets), 1) for name in ("prediction", "probability")}  # type: ignore[literal-required]
        used = sets.any(0).nonzero().flatten()
        if len(used):
            group: Group = {
                "heads": [heads[number] for number in used.tolist()],
                "positions": positions[used],
                "source_positions": positions[used][None],
                "values": values[:, used][None],
            }
            masks = (~sets[:, used]).to(values.dtype)
            source, draws = given_source(group), [0] * len(sets)
            passes = mixed_logits(model, anatomy, prompts, group, source, masks, draws, gib, dtype)
            for part, rows, logits in passes:
                under = verdict(logits, prompts["answers"][rows])
                for name, entry in found.items():
                    entry[part[:, None].to(entry.device), rows[None].to(entry.device)] = under[name].T  # type: ignore[literal-required]
        answered.append(found)
    joined = {name: torch.cat([part[name] for part in answered]) for name in ("prediction", "probability")}
    return {**joined, "own": alone["prediction"]}


def mixed_logits(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    group: Group,
    source: dict[int, Float[Tensor, "draw batch _ d_head"]],
    masks: Float[Tensor, "mask head"],
    draws: list[int],
    gib: float | None,
    dtype: torch.dtype,
) -> Iterator[tuple[Int[Tensor, " mask"], Int[Tensor, " row"], Float[Tensor, "row mask vocab"]]]:
    """Pass by pass, which masks and prompts went through, and their logits at the last token."""
    lengths = clean["last"] - group["positions"].min(0).values + 1
    numbers, width = torch.arange(len(masks), device=lengths.device), clean["tokens"].shape[1]
    for length in lengths.unique().tolist():
        members = (lengths == length).nonzero().flatten()
        for part, rows in slot_passes(model, anatomy, numbers, members, length, width, gib):
            slots = (clean["last"][rows] - length + 1)[:, None] + torch.arange(length, device=rows.device)
            layout = lay_out(anatomy, clean, rows, slots[:, None], len(part), dtype)
            of_part = [draws[number] for number in part.tolist()]
            mixtures = make_mixtures(anatomy, clean, group, source, layout, of_part)
            visits: dict[int, dict[str, Visit]] = {
                layer: {"z": lambda z, mixture=mixture, part=part: mix(mixture, masks[part], z)}  # type: ignore[misc]
                for layer, mixture in mixtures.items()
            }
            yield part, rows, run_behind(model, anatomy, clean, layout, visits)
