"""How many tokens a model takes."""

from __future__ import annotations

from entitrack.models.model import Model


def context_length(model: Model) -> int | None:
    """The most tokens that a model was built for; None where its configuration does not say."""
    length = getattr(model.config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None
