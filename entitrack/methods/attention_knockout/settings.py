"""What `method=attention_knockout` may be told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from entitrack.core.settings import MethodSettings
from entitrack.core.settings import Settings as Part

RANDOM = "a random position"
"""Name of the control's target."""


class Edge(Part):
    """One role that may no longer see another."""

    source: str = Field(description="role that attends")
    target: str = Field(description="role before it that is hidden")


class Settings(MethodSettings):
    """Does information flow between two positions, and from which layer on? (section 4.1 and appendix)."""

    model: str | None = Field(None, description="member of the family; null: the base")
    edges: list[Edge] = Field(
        [
            Edge(source="last", target="correct_object"),
            Edge(source="last", target="query_label"),
            Edge(source="query_label", target="prev_query_label"),
        ],
        min_length=1,
        description="which role may no longer see which",
    )
    control: bool = Field(True, description="for each source, also hide a position drawn at random")
    metric: Literal["accuracy", "probability", "logit_difference"] = Field(
        "accuracy", description="what F is: accuracy, probability or logit_difference"
    )
    chunk_tokens: int = Field(8192, ge=1, le=2**27, description="at most this many tokens go through the model at once")
