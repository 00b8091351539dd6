"""What every method that patches desideratum pairs may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.core.settings import MethodSettings

DESIDERATA_HELP = "names, or sets of the task's (boxes: paper, extra, all); or one's own as module:Class"


class PatchingSettings(MethodSettings):
    """Which desiderata, for which groups of the circuit, and how much goes through the model at once."""

    desiderata: list[str] | None = Field(None, description=f"{DESIDERATA_HELP}; null: the task's usual set")
    groups: list[str] = Field([], description="groups, one by one; empty: all of the circuit's")
    chunk_tokens: int = Field(8192, ge=1, le=2**27, description="at most this many tokens go through the model at once")
