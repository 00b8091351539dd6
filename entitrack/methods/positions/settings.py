"""What `method=positions` may be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from entitrack.core.parts import Part
from entitrack.methods.ablation_settings import AblationSettings
from entitrack.methods.mechanism_settings import MechanismSettings


class Settings(MechanismSettings, AblationSettings):
    """At which positions is the work done? Grown from the last token over the places of the template."""

    part: ClassVar[Part | None] = "search"

    model: str | None = Field(None, description="member of the family; null: the base")
    most: int = Field(6, ge=1, le=1000, description="places to grow to")
    enough: float = Field(0.95, ge=0, description="stop when F reaches this share of F(M)")
