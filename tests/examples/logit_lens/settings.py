"""What `method=logit_lens` may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.core.settings import MethodSettings


class Settings(MethodSettings):
    """From which layer on does the stream already say the answer?"""

    models: list[str] = Field([], description="members of the family; empty: all")
