"""What is asked of a model, and how what it answers stands to the right answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, unembed
from entitrack.engine.memory import ends_at_once

AT_ONCE = 1 << 20
"""Logits of which copies are made at once on a CPU: so many as it keeps near."""


class Prompts(TypedDict):
    """A batch of prompts, padded on either side; `mask` is 0 at the padding."""

    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]
    last: Int[Tensor, " batch"]
    """The last token of each prompt, where it is answered."""
    answers: Int[Tensor, " batch"]
    """Token id of the right answer."""
    rivals: NotRequired[Int[Tensor, "batch rival"]]
    """The other answers that the context offers."""
    position: NotRequired[Int[Tensor, " batch"]]
    """Where a stage of path patching has its senders and receivers."""


class Verdict(TypedDict):
    """Whether prompts are answered."""

    prediction: Int[Tensor, "*batch"]
    """The most likely token."""
    probability: Float[Tensor, "*batch"]
    """Of the right answer, float32."""


class Outcomes(TypedDict):
    """How prompts are answered, where a context offers several answers."""

    prediction: Int[Tensor, "*batch"]
    probability: Float[Tensor, "*batch"]
    margin: Float[Tensor, "*batch"]
    """Logit of the right answer minus that of the best rival, float32."""


def forward_inputs(prompts: Any) -> dict[str, Tensor]:
    """Arguments of a forward pass over padded prompts, which have `tokens` and `mask`."""
    mask = prompts["mask"]
    return {"input_ids": prompts["tokens"], "attention_mask": mask, "position_ids": position_ids(mask)}


def position_ids(mask: Int[Tensor, "batch token"]) -> Int[Tensor, "batch token"]:
    """Positions counted from the first token that is not padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def answer_probability(
    logits: Float[Tensor, "batch ... vocab"], answers: Int[Tensor, " batch"]
) -> Float[Tensor, "batch ..."]:
    """Probability of the right answer, in float32."""
    logits = logits.float()
    index = answers.to(logits.device).view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return (logits.gather(-1, index).squeeze(-1) - normaliser(logits)).exp()


def normaliser(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """Their `logsumexp`, a few rows at a time: copies of all of them are slow to make where vocabularies are large."""
    rows = logits.reshape(-1, logits.shape[-1])
    if logits.device.type != "cpu" or rows.numel() <= AT_ONCE:
        return logits.logsumexp(-1)
    return torch.cat([some.logsumexp(-1) for some in rows.split(max(1, AT_ONCE // rows.shape[1]))]).view(
        logits.shape[:-1]
    )


def verdict(logits: Float[Tensor, "batch ... vocab"], answers: Int[Tensor, " batch"]) -> Verdict:
    """How logits stand to the right answers, `[batch, ...]`."""
    return {"prediction": logits.argmax(-1), "probability": answer_probability(logits, answers)}


def outcomes(logits: Float[Tensor, "batch variant vocab"], prompts: Prompts) -> Outcomes:
    """How several variants of each prompt are answered, `[batch, variant]`."""
    logits = logits.float()
    answers, rivals = prompts["answers"].to(logits.device), prompts["rivals"].to(logits.device)
    width = logits.shape[1]
    right = logits.gather(2, answers[:, None, None].expand(-1, width, 1)).squeeze(2)
    best = logits.gather(2, rivals[:, None].expand(-1, width, -1)).amax(2)
    probability = answer_probability(logits, answers)
    return {"prediction": logits.argmax(-1), "probability": probability, "margin": right - best}


def final_outcomes(
    model: Any, anatomy: Anatomy, hidden: Float[Tensor, "batch variant d_model"], prompts: Prompts, gib: float | None
) -> Outcomes:
    """`outcomes` of streams at the end of the last layer."""

    def read(logits: Tensor, rows: slice, variants: slice) -> Any:
        return outcomes(logits, rows_of(prompts, rows))

    found: Any = unembedded_in_pieces(model, anatomy, hidden, gib, read)
    return found


def unembedded_in_pieces(
    model: Any,
    anatomy: Anatomy,
    hidden: Float[Tensor, "batch variant d_model"],
    gib: float | None,
    read: Callable[[Tensor, slice, slice], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """What is read off the logits of streams at the end of the last layer, as many at once as the budget allows.

    Args:
        model: The model.
        anatomy: Its anatomy.
        hidden: The streams.
        gib: Memory budget, see `memory.budget_bytes`.
        read: Takes logits `[some, few, vocab]`, which of the batch and which of the variants they are of, and returns
            `[some, few, ...]`.

    Returns:
        By name `[batch, variant, ...]`.
    """
    most = ends_at_once(model, anatomy, gib, hidden.device)
    tall = min(len(hidden), most)
    wide, results = max(1, most // tall), dict[str, Tensor]()
    for top in range(0, len(hidden), tall):
        for left in range(0, hidden.shape[1], wide):
            rows, variants = slice(top, top + tall), slice(left, left + wide)
            for name, values in read(unembed(model, anatomy, hidden[rows, variants]), rows, variants).items():
                whole = results.setdefault(name, values.new_empty(*hidden.shape[:2], *values.shape[2:]))
                whole[rows, variants] = values
    return results


def join(pieces: list[Outcomes], axis: int) -> Outcomes:
    """Pieces of outcomes in one."""
    prediction, probability, margin = (
        torch.cat([piece[name] for piece in pieces], axis)  # type: ignore[literal-required]
        for name in ("prediction", "probability", "margin")
    )
    return {"prediction": prediction, "probability": probability, "margin": margin}


def variants_first(pieces: list[Outcomes]) -> Outcomes:
    """Outcomes of several runs of the same prompts, `[batch, 1]` each, as `[variant, batch]`."""
    joined = join(pieces, 1)
    return {
        "prediction": joined["prediction"].T,
        "probability": joined["probability"].T,
        "margin": joined["margin"].T,
    }


def rows_of(prompts: Prompts, rows: Int[Tensor, " row"] | slice) -> Prompts:
    """Some of the prompts."""
    some: Any = {name: prompts[name][rows] for name in prompts}  # type: ignore[literal-required]
    return some


def put_outcomes(
    results: dict[str, Tensor],
    shape: tuple[int, int],
    variants: Int[Tensor, " variant"],
    rows: Int[Tensor, " row"],
    answered: Outcomes,
) -> None:
    """Write the outcomes of some variants and prompts, `[row, variant]`, into those of all, `shape`."""
    for name in ("prediction", "probability", "margin"):
        values = answered[name]  # type: ignore[literal-required]
        everything = results.setdefault(name, torch.empty(shape, dtype=values.dtype, device=values.device))
        everything[variants[:, None].to(values.device), rows[None].to(values.device)] = values.T
