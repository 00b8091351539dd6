"""The logits of every answer that a context offers: of the right one and of its alternatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.methods.asking import Asked, repeated

NO_TOKEN = -1
"""Stands where a context offers fewer answers than another."""


def offered_logits(asked: Mapping[str, Asked], prompts: PromptSet) -> dict[str, Measurement]:
    """The logits of what was asked, as measurements.

    Args:
        asked: Model -> what it answers.
        prompts: The prompts.

    Returns:
        `logit` `[model, offered, prompt]`, of the right answer's first token and then of its alternatives', not a
        number where a context offers fewer; `offered` `[offered, prompt]`, these tokens.

    Raises:
        UserError: No context offers several answers.
    """
    tokens = next(iter(asked.values())).tokens
    logits = [one.logits for one in asked.values() if one.logits is not None]
    if tokens is None or not logits:
        raise UserError("method.logits", "no context offers another answer than the right one")
    absent = repeated(tokens)
    places = ("answer", *(f"alternative {number}" for number in range(1, tokens.shape[1])))
    values = torch.stack([of_one.masked_fill(absent, torch.nan).T for of_one in logits])
    labels = {"model": tuple(asked), "offered": places}
    return {
        "logit": Measurement(values, ("model", "offered", PROMPT), labels, prompts),
        "offered": Measurement(
            tokens.masked_fill(absent, NO_TOKEN).T, ("offered", PROMPT), {"offered": places}, prompts
        ),
    }
