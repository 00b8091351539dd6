"""What `method=ablation` may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.settings import MethodSettings
from entitrack.methods.ablation_settings import Ablation

RANDOM = "a random position"
"""Name of the control's row."""

if TYPE_CHECKING:
    Component = str
else:
    Component = Literal[tuple(WITHOUT_HEADS)]


class Settings(MethodSettings):
    """Which layers does the answer go through, and at which role?"""

    model: str | None = Field(None, description="member of the family; null: the base")
    components: list[Component] = Field(
        ["attn_out", "mlp_out"], min_length=1, description=f"what is ablated: {', '.join(WITHOUT_HEADS)}"
    )
    roles: list[str] | None = Field(
        None, min_length=1, description="where, one role at a time; null: those of the task's stages"
    )
    control: bool = Field(True, description="also ablate at a position drawn at random")
    ablation: Ablation = Field("mean", description="what ablated components become: mean, zero or resample")
    metric: Literal["accuracy", "probability", "logit_difference"] = Field(
        "accuracy", description="what F is: accuracy, probability or logit_difference"
    )
    mean_count: int = Field(504, ge=1, le=100_000, description="prompts with random content that means are taken over")
