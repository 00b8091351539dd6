"""What `method=completeness` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from entitrack.core.quirks import Quirk
from entitrack.methods.ablation_settings import AblationSettings


class Settings(AblationSettings):
    """Is anything missing from the circuit? (section 4.2)."""

    needs_circuit: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (Quirk.SHARED_HEADS,)

    model: str | None = Field(None, description="member of the family; null: the base")
    random_sets: int = Field(40, ge=0, le=100_000, description="random sets of heads to remove, besides the groups")
    share: float = Field(0.5, ge=0.01, le=1, description="probability with which a head is in a random set")
