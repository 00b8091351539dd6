"""What may be set of `tracking`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from entitrack.core.settings import Settings


class TrackingSettings(Settings):
    """How W&B records a run, after its result is on the disk."""

    place: ClassVar[str] = "tracking"
    mode: Literal["offline", "online", "disabled"] = Field(
        "offline", description="offline: in the run's folder, without an account; online: WANDB_API_KEY or a login"
    )
    project: str = Field("entitrack", description="name of the project")
    group: str | None = Field(None, min_length=1, description="group of the run; null: its family and task")
    tags: list[str] = Field([], description="tags besides method, family, task and models")
    timeout_s: float = Field(120.0, gt=0, le=86400, description="seconds that W&B may take")
