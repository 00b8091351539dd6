"""What `method=evaluate` may be told."""

from __future__ import annotations

from pydantic import Field, field_validator

from entitrack.core.settings import MethodSettings

PHRASING = "phrasing"
"""Facet of prompts: the number of their phrasing among those that are compared."""


class Settings(MethodSettings):
    """How well does each model track entities? (section 3)."""

    models: list[str] = Field([], description="members of the family; empty: all")
    boxes: list[int] = Field([], description="numbers of boxes, such as [2,3,4,5,6,7]; empty: the task's own")
    phrasings: list[str] = Field(
        [], description="phrasings of the task to compare in one table; empty: the task's own alone"
    )
    logits: bool = Field(False, description="keep the logits of all answers that the context offers, too")

    @field_validator("phrasings")
    @classmethod
    def _are_different(cls, phrasings: list[str]) -> list[str]:
        for number, phrasing in enumerate(phrasings):
            if phrasing in phrasings[:number]:
                raise ValueError(f"{phrasing!r} is there twice")
        return phrasings
