"""What `method=evaluate` may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.core.settings import MethodSettings


class Settings(MethodSettings):
    """How well does each model track entities? (section 3)."""

    models: list[str] = Field([], description="members of the family; empty: all")
    boxes: list[int] = Field([], description="numbers of boxes, such as [2,3,4,5,6,7]; empty: the task's own")
    logits: bool = Field(False, description="keep the logits of all answers that the context offers, too")
