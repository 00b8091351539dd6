"""What `method=transfer` may be told."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from entitrack.core.errors import UserError
from entitrack.methods.ablation_settings import AblationSettings
from entitrack.methods.mechanism_settings import MechanismSettings

MODEL, EMPTY = "model", "no heads"
"""Rows that stand beside the circuits: the whole model, and no head live."""


class Settings(AblationSettings, MechanismSettings):
    """Is the circuit of one task that of another? Faithfulness and CMAP of each on each, as a matrix."""

    circuits: dict[str, str] = Field(
        {}, description="name: a circuit's file, or one that ships with the family; empty: the base's own"
    )
    tasks: dict[str, dict[str, Any]] = Field(
        {}, description="tasks to judge on besides the run's, name: settings, such as {bindings: {facts: 3}}"
    )
    masks: dict[str, str] = Field(
        {}, description="circuit's name: masks.json of method=dcm, whose heads alone are judged"
    )
    desideratum: str = Field("object_value", description="which of the masks' desiderata chooses the heads")
    models: list[str] = Field([], description="members of the family; empty: all")
    controls: int = Field(100, ge=1, le=100_000, description="random circuits of each one's shape to hold it against")

    @model_validator(mode="after")
    def _masks_have_a_circuit(self) -> Self:
        for name in self.masks:
            if name not in self.circuits:
                raise UserError(f"method.masks.{name}", "there is no such circuit", self.circuits)
        return self
