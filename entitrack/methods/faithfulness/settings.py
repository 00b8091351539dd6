"""What `method=faithfulness` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from entitrack.core.quirks import Quirk
from entitrack.methods.ablation_settings import Ablation, CircuitSettings


class Settings(CircuitSettings):
    """Does the circuit alone do what the model does, in every member of the family? (sections 4.2 and 5)."""

    needs_circuit: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (Quirk.SHARED_HEADS, Quirk.ROUNDED_F, Quirk.HEADS_WITH_REPLACEMENT)

    ablations: list[Ablation] = Field(
        ["mean", "zero", "resample"], min_length=1, description="what ablated heads give, one after another"
    )
    models: list[str] = Field([], description="members of the family to run the circuit on; empty: all")
    random_circuits: int = Field(100, ge=0, le=100_000, description="random circuits of the same shape to compare with")
