"""What `method=desiderata` may be told."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from entitrack.core.quirks import Quirk
from entitrack.core.settings import MethodSettings
from entitrack.methods.desideratum_settings import DESIDERATA_HELP


class Settings(MethodSettings):
    """One example pair of each desideratum (section 5). No model is run."""

    quirks: ClassVar[Collection[Quirk]] = (Quirk.OWN_POSITION,)

    desiderata: list[str] = Field(["all"], description=DESIDERATA_HELP)
    prompt: int = Field(0, ge=0, le=1_000_000_000, description="number of the clean prompt to show, from 0")
