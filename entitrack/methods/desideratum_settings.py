"""What every method that patches desideratum pairs may be told."""

from __future__ import annotations

from pydantic import Field

from entitrack.core.settings import MethodSettings

DESIDERATA_HELP = "names, or sets of the task's (boxes: paper, extra, all); or one's own as module:Class"


class PatchingSettings(MethodSettings):
    """Which desiderata, for which groups of the circuit."""

    desiderata: list[str] | None = Field(None, description=f"{DESIDERATA_HELP}; null: the task's usual set")
    groups: list[str] = Field([], description="groups, one by one; empty: all of the circuit's")
