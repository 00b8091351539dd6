"""What `method=attribution` may be told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from entitrack.core.parts import Part
from entitrack.methods.path_patching.settings import Settings as ExactSettings
from entitrack.methods.path_patching.settings import StageSettings


class Settings(StageSettings):
    """Path patching to first order (attribution patching), against exact scores (section 4.1)."""

    part: ClassVar[Part | None] = "search"
    needs_gradients: ClassVar[bool] = True

    top: int = Field(5, ge=1, le=1_000_000, description="size of the sets of lowest scores that are compared")

    def exact(self) -> ExactSettings:
        """The same for exact path patching."""
        return ExactSettings(**{name: getattr(self, name) for name in StageSettings.model_fields})
