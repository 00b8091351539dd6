"""What `method=cmap_map` may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.parts import Part
from entitrack.core.settings import MethodSettings

if TYPE_CHECKING:
    Component = str
else:
    Component = Literal[("z", *WITHOUT_HEADS)]


class Settings(MethodSettings):
    """Where could the donor's activations gain anything? CMAP to first order (section 6)."""

    part: ClassVar[Part | None] = "search"
    needs_donor: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True

    recipient: str | None = Field(None, description="member that the donor's activations would go into; null: the base")
    components: list[Component] = Field(
        ["z", "mlp_out"], min_length=1, description="what is looked at, in every layer: z by head"
    )
    roles: list[str] | None = Field(None, description="positions to look at; null: those of the task's stages")
    exact: int = Field(
        24, ge=0, le=1_000_000, description="heads that are moved exactly as well: those that promise most"
    )
    top: int = Field(5, ge=1, le=1_000_000, description="size of the sets of best heads that are compared")
