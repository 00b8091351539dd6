"""What `method=activation_patching` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.errors import UserError
from entitrack.core.quirks import Quirk
from entitrack.methods.desideratum_settings import PatchingSettings

if TYPE_CHECKING:
    Component = str
else:
    Component = Literal[("z", *WITHOUT_HEADS)]

NOTHING = "nothing"
"""Name of the row in which no head is patched."""


class Settings(PatchingSettings):
    """Does the same group carry the same thing in every member of the family? (section 5)."""

    needs_circuit: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (Quirk.OWN_POSITION, Quirk.CLEAN_POSITION)

    component: Component = Field(
        "z", description="what moves: z of the heads; or, of the layers that they are in, a component without heads"
    )
    models: list[str] = Field([], description="members of the family; empty: all")
    masks: str | None = Field(None, description="masks.json of method=dcm, whose heads are patched; null: whole groups")
    repeats: int = Field(3, ge=1, le=1000, description="draws of the counterfactuals (the paper: 10)")

    @model_validator(mode="after")
    def _masks_choose_heads(self) -> Self:
        if self.masks is not None and self.component != "z":
            problem = f"masks choose heads, and {self.component} has none"
            raise UserError("method.masks", problem, fix="leave it out, or say method.component=z")
        return self
