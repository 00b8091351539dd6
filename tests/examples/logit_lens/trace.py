"""What the stream in front of every layer would answer."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, at, unembed
from entitrack.engine.answers import Prompts
from entitrack.engine.runs import show


class LayerAnswers(TypedDict):
    """The most likely token, if no layer came after."""

    prediction: Int[Tensor, "layer batch"]


def layer_answers(model: Any, anatomy: Anatomy, prompts: Prompts) -> LayerAnswers:
    """Unembed the stream in front of each layer, at the last token. Nothing is frozen, recomputed or replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
    """
    predictions: list[Tensor] = []

    def look(stream: Tensor) -> None:
        predictions.append(unembed(model, anatomy, at(stream, prompts["last"])).argmax(-1))

    show(model, anatomy, prompts, {layer: {"resid_pre": look} for layer in range(anatomy["n_layers"])})
    return {"prediction": torch.stack([tokens.to(predictions[0].device) for tokens in predictions])}
