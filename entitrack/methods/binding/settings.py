"""What `method=binding` may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.methods.mechanism_settings import MechanismSettings

OWN, OTHER, MOVED = "own", "other", "any of the three"
"""The clean answer; none of all; one of the three."""
PLACE = "place"
"""Facet: which place of the list the counterfactual asks for."""


class Settings(MechanismSettings):
    """By what does a model find the answer: where it stands in the list, what it is called, or what it is?"""

    models: list[str] = Field([], description="members of the family; empty: all")
    role: str = Field("last", description="where the stream is patched")
    layers: list[int] = Field([], description="layers before which it is patched, such as [0,4,8]; empty: all")
    heads_of: str | None = Field(
        None, description="a circuit's file or name, whose groups' heads are patched too; null: none"
    )
    shown: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of answers that position or letter moved, from which a unit is shown by position",
    )
