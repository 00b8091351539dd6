"""What `method=path_patching` may be told: stages, how heads are chosen, on which prompts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from entitrack.core import settings
from entitrack.core.parts import Part
from entitrack.core.quirks import Quirk
from entitrack.core.stages import Stage
from entitrack.methods.mechanism_settings import MechanismSettings

NEGLIGIBLE = 0.1
"""Scores smaller than this share of a stage's largest may be left to first order."""

HALVES = 200
"""Random halves of the contexts in which heads are looked for again."""


class Choice(settings.Settings):
    """How the heads of a group are chosen; whichever way it is, a head that is within the noise is not."""

    by: Literal["count", "threshold", "fdr"] = Field(
        "count",
        description="count: the stage's size; threshold; fdr: a test over contexts with false-discovery control",
    )
    threshold: Annotated[float, settings.OnlyWith("by", "threshold")] = Field(
        0.02, ge=0, description="least importance under threshold: 0.02 is a loss of 2 % of the right probability"
    )
    rate: Annotated[float, settings.OnlyWith("by", "fdr")] = Field(
        0.05, gt=0, lt=1, description="false discovery rate under fdr (Benjamini-Hochberg)"
    )


class StageSettings(MechanismSettings):
    """What every method that goes through stages may be told."""

    quirks: ClassVar[Collection[Quirk]] = (Quirk.QUESTION_LETTER, Quirk.REDRAWN_POSITION)

    model: str | None = Field(None, description="member of the family whose circuit is looked for; null: the base")
    prompts: Literal["right", "all"] = Field(
        "right", description="score on the prompts that the model answers rightly, or on all, as published"
    )
    stages: list[Stage] | None = Field(None, min_length=1, description="the stages, in order; null: the task's own")


class Settings(StageSettings):
    """Which heads track entities, and in which order? (section 4.1)."""

    part: ClassVar[Part | None] = "search"
    leaves: ClassVar[Collection[str]] = ("circuit",)

    choose: Choice = Field(Choice(), description="how the heads of a group are chosen")
    verify: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="random senders to compare with the naive way on the first batch of each stage",
    )
    suffix: Literal["exact", "screened"] = Field(
        "exact",
        description="where receivers are far from the end: exact reruns all that comes after them for every sender,"
        " screened only for those of which first order does not say enough",
    )
    screen: str | None = Field(
        None, description="attribution:0.2 scores only the fifth of the heads that is best to first order; null: all"
    )

    @field_validator("screen")
    @classmethod
    def _reads_as_a_share(cls, screen: str | None) -> str | None:
        if screen is not None and not 0 < _share(screen) <= 1:
            raise ValueError(f"{screen!r} does not read attribution:SHARE; say attribution:0.2")
        return screen

    @property
    def gradients(self) -> str | None:
        """See `MethodSettings.gradients`."""
        if self.screen is not None:
            return "method.screen"
        return "method.suffix" if self.suffix == "screened" else None

    @property
    def screened_share(self) -> float | None:
        """The share of heads that are scored exactly; None: all."""
        return None if self.screen is None else _share(self.screen)


def _share(screen: str) -> float:
    """The number after `attribution:`; 0 where there is none."""
    kind, _, share = screen.partition(":")
    try:
        return float(share) if kind == "attribution" else 0.0
    except ValueError:
        return 0.0
