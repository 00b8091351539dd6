"""What a circuit is searched along, as a task and a configuration say it: stages of path patching, edges to block."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from entitrack.core.settings import Settings


class Stage(Settings):
    """One stage of path patching: what sends, what receives, and where."""

    name: str = Field(description="name of the group it finds")
    role: str = Field(description="position of the senders, and of what they send through")
    component: Literal["logits", "q", "k", "v"] = Field(
        "logits", description="what of the receivers is replaced; logits have no receivers"
    )
    receivers: str | None = Field(None, description="the earlier stage whose heads receive; null for logits")
    size: int | None = Field(4, ge=1, le=1_000_000, description="most heads of the group; null sets no bound")


class Edge(Settings):
    """One role that may no longer see another."""

    source: str = Field(description="role that attends")
    target: str = Field(description="role before it that is hidden")
