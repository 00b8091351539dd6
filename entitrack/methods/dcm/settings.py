"""What `method=dcm` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from entitrack.core.errors import UserError
from entitrack.core.parts import Part
from entitrack.core.quirks import Quirk
from entitrack.methods.desideratum_settings import PatchingSettings
from entitrack.methods.mechanism_settings import MechanismSettings


class Settings(MechanismSettings, PatchingSettings):
    """What does each group carry? Desiderata-based component masking (section 5)."""

    part: ClassVar[Part | None] = "search"
    leaves: ClassVar[Collection[str]] = ("masks",)
    needs_circuit: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (
        Quirk.OWN_POSITION,
        Quirk.SHARED_HEADS,
        Quirk.TRAINING_POSITION,
        Quirk.SPLIT_BY_PROMPT,
        Quirk.TWO_EPOCHS,
    )

    model: str | None = Field(None, description="member of the family; null: the base")
    sparsity: list[Annotated[float, Field(ge=0)]] = Field(
        [0.01],
        min_length=1,
        description="weights (lambda) of the number of heads taken from the counterfactual: a mask for each",
    )
    draws: int = Field(1, ge=1, le=1000, description="draws of the counterfactuals: a mask for each, trained together")
    steps: int = Field(
        48, ge=1, le=1_000_000, description="at most; the training prompts are gone through again and again"
    )
    batch_size: int = Field(32, ge=1, le=65536, description="training prompts a step")
    learning_rate: float = Field(0.1, gt=0, le=1000, description="of Adam")
    evaluate_every: int = Field(
        4, ge=1, le=1_000_000, description="steps between evaluations on the validation prompts"
    )
    patience: int | None = Field(
        4,
        ge=1,
        le=1_000_000,
        description="evaluations without a better accuracy before a mask is done, once it can have moved by half;"
        " null: never",
    )

    @field_validator("sparsity")
    @classmethod
    def _has_each_once(cls, sparsity: list[float]) -> list[float]:
        for index, weight in enumerate(sparsity):
            if weight in sparsity[:index]:
                raise UserError(f"method.sparsity.{index}", f"the weight {weight} is there twice")
        return sparsity
