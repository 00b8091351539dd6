"""What `method=minimality` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from entitrack.core.quirks import Quirk
from entitrack.methods.ablation_settings import AblationSettings
from entitrack.methods.mechanism_settings import MechanismSettings


class Settings(MechanismSettings, AblationSettings):
    """Does every head of the circuit earn its place? (section 4.2)."""

    needs_circuit: ClassVar[bool] = True
    leaves: ClassVar[Collection[str]] = ("circuit",)
    quirks: ClassVar[Collection[Quirk]] = (
        Quirk.SHARED_HEADS,
        Quirk.ROUNDED_F,
        Quirk.PAIRS_OF_ONE_INDEX,
        Quirk.OTHER_ORDER,
        Quirk.RATIO_SCORE,
    )

    model: str | None = Field(None, description="member of the family; null: the base")
    share: float = Field(
        0.3, ge=0, le=1, description="most heads that are removed first, as a share of the group (the paper: 0.3)"
    )
    threshold: float = Field(
        0.01,
        description="heads with a lower score are not in the pruned circuit (the paper: 0.01)",
    )
