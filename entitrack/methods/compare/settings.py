"""What `method=compare` may be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from entitrack.core.parts import Part
from entitrack.core.settings import MethodSettings


class Settings(MethodSettings):
    """Are two circuits one, beyond what chance gives?"""

    needs_donor: ClassVar[bool] = True
    part: ClassVar[Part | None] = None

    circuits: list[str] | None = Field(
        None,
        description="exactly two, as circuit= takes them: names or files; null: the base's own and the donor's own",
    )

    @field_validator("circuits")
    @classmethod
    def _are_two(cls, circuits: list[str] | None) -> list[str] | None:
        if circuits is not None and len(circuits) != 2:
            raise ValueError(f"lists {len(circuits)}; two circuits are compared: write [FIRST, SECOND]")
        return circuits
