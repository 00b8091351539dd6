"""What a pass through a model costs besides its tokens: when fewer tokens are worth another pass."""

from __future__ import annotations

from entitrack.engine.anatomy import Anatomy

PASS = 3e8
"""What a pass through the model costs besides its tokens, in multiply-adds."""

PASS_TOKENS = 24
"""What reading the weights costs, once a pass, in tokens."""


def pass_in_tokens(anatomy: Anatomy) -> float:
    """How many tokens cost as much as a pass besides its own."""
    return PASS_TOKENS + PASS / (12 * anatomy["n_layers"] * (anatomy["n_heads"] * anatomy["d_head"]) ** 2)
