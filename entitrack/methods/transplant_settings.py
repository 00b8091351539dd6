"""What may be chosen where a donor's heads are put into another model."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from entitrack.core.settings import MethodSettings


class TransplantSettings(MethodSettings):
    """What every method that transplants a circuit's heads may be told."""

    needs_circuit: ClassVar[bool] = True

    groups: list[str] = Field([], description="groups to transplant; empty: all of the circuit's")
    controls: int = Field(
        100, ge=0, le=100_000, description="random sets of heads, of each kind, that these are held against; 0: none"
    )
    control_prompts: int | None = Field(
        84, ge=1, description="prompts that these are transplanted on, the task's first; null: all"
    )


class UnitSettings(TransplantSettings):
    """What every method that transplants its units one by one, from one donor, may be told."""

    needs_donor: ClassVar[bool] = True

    recipient: str | None = Field(None, description="member that the donor's activations are put into; null: the base")
    units: Literal["groups", "heads", "layers"] = Field(
        "groups", description="what moves by itself: a group, each of its heads, or what it has in each layer"
    )
