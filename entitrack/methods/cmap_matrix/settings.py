"""What `method=cmap_matrix` may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.methods.transplant_settings import TransplantSettings

CIRCUIT = "circuit"
"""What stands for a recipient with a donor's heads."""


class Settings(TransplantSettings):
    """Which member can give which other what? CMAP of the circuit between all pairs (section 6)."""

    members: list[str] = Field([], description="members that give and take; empty: all of the family")
    controls: int = Field(
        20, ge=0, le=100_000, description="random sets of heads that the circuit's are held against; 0: none"
    )
