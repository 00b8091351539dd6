"""What `method=cmap_order` may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.methods.transplant_settings import UnitSettings


class Settings(UnitSettings):
    """Which group first, taken from the donor, and what does each add? (section 6)."""

    steps: int | None = Field(None, ge=1, description="units that are added at most; null: all")
