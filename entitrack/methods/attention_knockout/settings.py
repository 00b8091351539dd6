"""What `method=attention_knockout` may be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from entitrack.core.settings import MethodSettings
from entitrack.core.stages import Edge

RANDOM = "a random position"
"""Name of the control's target."""


class Settings(MethodSettings):
    """Does information flow between two positions, and from which layer on? (section 4.1 and appendix)."""

    model: str | None = Field(None, description="member of the family; null: the base")
    edges: list[Edge] | None = Field(
        None, min_length=1, description="which role may no longer see which; null: the task's own edges"
    )
    control: bool = Field(True, description="for each source, also hide a position drawn at random")
    metric: Literal["accuracy", "probability", "logit_difference"] = Field(
        "accuracy", description="what F is: accuracy, probability or logit_difference"
    )
