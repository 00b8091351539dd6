"""What `method=activation_patching` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from entitrack.core.quirks import Quirk
from entitrack.methods.desideratum_settings import PatchingSettings


class Settings(PatchingSettings):
    """Does the same group carry the same thing in every member of the family? (section 5)."""

    needs_circuit: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (Quirk.OWN_POSITION, Quirk.CLEAN_POSITION)

    models: list[str] = Field([], description="members of the family; empty: all")
    masks: str | None = Field(None, description="masks.json of method=dcm, whose heads are patched; null: whole groups")
    repeats: int = Field(3, ge=1, le=1000, description="draws of the counterfactuals (the paper: 10)")
