"""The logits of every answer that a context offers: of the right one and of its alternatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, PromptSet

NO_TOKEN = -1
"""Stands where a context offers fewer answers than another."""


def offered_logits(
    answered: Mapping[str, Sequence[Mapping[str, Tensor]]], inputs: Sequence[Mapping[str, Any]], prompts: PromptSet
) -> dict[str, Measurement]:
    """What sessions of `answer_logits` returned, as measurements.

    Args:
        answered: Model -> what was returned, by batch.
        inputs: What the sessions took, by batch.
        prompts: The prompts.

    Returns:
        `logit` `[model, offered, prompt]`, of the right answer's first token and then of its alternatives', not a
        number where a context offers fewer; `offered` `[offered, prompt]`, these tokens.
    """
    tokens = [torch.cat([batch["prompts"]["answers"][:, None], batch["prompts"]["rivals"]], 1) for batch in inputs]
    width = max(batch.shape[1] for batch in tokens)
    places = ("answer", *(f"alternative {number}" for number in range(1, width)))
    logits = [
        torch.cat([_widened(batch["logits"], width, torch.nan) for batch in batches]).T for batches in answered.values()
    ]
    labels = {"model": tuple(answered), "offered": places}
    offered = torch.cat([_widened(batch, width, NO_TOKEN) for batch in tokens]).T
    return {
        "logit": Measurement(torch.stack(logits), ("model", "offered", PROMPT), labels, prompts),
        "offered": Measurement(offered, ("offered", PROMPT), {"offered": places}, prompts),
    }


def _widened(values: Shaped[Tensor, "batch answer"], width: int, filler: float) -> Shaped[Tensor, "batch wide"]:
    """Values along a last axis that is made longer."""
    return torch.cat([values, values.new_full((len(values), width - values.shape[1]), filler)], 1)
