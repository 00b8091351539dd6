"""What `method=cmap` may be told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from entitrack.core.errors import UserError, quoted
from entitrack.core.settings import MethodSettings, OnlyWith

Components = Literal["q", "k", "v", "qk", "qv", "kv", "qkv"]


class Settings(MethodSettings):
    """Which group, taken from the donor, makes the base as good? (section 6)."""

    needs_donor: ClassVar[bool] = True
    needs_circuit: ClassVar[bool] = True
    groups: list[str] = Field([], description="groups to transplant one by one; empty: all of the circuit's")
    form: Literal["output", "input"] = Field(
        "output", description="output: z of the heads at their role; input: their q at the role, k and v before it"
    )
    components: Annotated[list[Components], OnlyWith("form", "input")] = Field(
        ["qkv"], min_length=1, description="what the input form moves, one by one: q, k, v, or combinations"
    )

    @field_validator("components")
    @classmethod
    def _has_each_once(cls, components: list[Components]) -> list[Components]:
        for index, moved in enumerate(components):
            if moved in components[:index]:
                raise UserError(f"method.components.{index}", f"{quoted(moved)} is there twice")
        return components
