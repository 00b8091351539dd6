"""What `method=cmap` may be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.errors import UserError, quoted
from entitrack.core.quirks import Quirk
from entitrack.methods.transplant_settings import UnitSettings

OUTPUTS = ("z", *WITHOUT_HEADS)
INPUTS = ("q", "k", "v", "qk", "qv", "kv", "qkv")

ALL_LAST, ALL_ROLES = "all heads at last", "all heads at the roles"
"""The most that heads at the last token, and at the circuit's roles, can do."""

NULL, EVERYTHING = "recipient into itself", "everything"
"""What must change nothing, and all that there is; see `cmap.brackets`."""

if TYPE_CHECKING:
    Component = str
else:
    Component = Literal[(*OUTPUTS, *INPUTS)]


class Settings(UnitSettings):
    """Which group, taken from the donor, makes the base as good? (section 6)."""

    quirks: ClassVar[Collection[Quirk]] = (Quirk.DONOR_CIRCUIT, Quirk.HELD_GROUP, Quirk.ONE_POSITION)

    masks: str | None = Field(
        None, description="masks.json of method=dcm: only the heads that carry what `narrow` says move; null: all"
    )
    narrow: dict[str, str] = Field(
        {"value_fetcher": "object_value", "pos_transmitter": "positional", "pos_detector": "positional"},
        description="group: the desideratum whose heads stay where masks are given; other groups are whole",
    )
    form: Literal["output", "input"] = Field(
        "output", description="output: what the heads give, at their role; input: what they read there and before it"
    )
    components: list[Component] = Field(
        [],
        description=f"what moves, one by one. output: z, or of the heads' layers {', '.join(WITHOUT_HEADS)};"
        " input: q at the role, k and v before it, or combinations; empty: z, or qkv",
    )

    @field_validator("components")
    @classmethod
    def _has_each_once(cls, components: list[Component]) -> list[Component]:
        for index, moved in enumerate(components):
            if moved in components[:index]:
                raise UserError(f"method.components.{index}", f"{quoted(moved)} is there twice")
        return components

    @model_validator(mode="after")
    def _fits_the_form(self) -> Self:
        known = OUTPUTS if self.form == "output" else INPUTS
        for index, moved in enumerate(self.components):
            if moved not in known:
                problem = f"the {self.form} form does not move {moved!r}"
                raise UserError(f"method.components.{index}", problem, known)
        return self

    @property
    def moved(self) -> Sequence[str]:
        """What moves, one by one."""
        return self.components or (["z"] if self.form == "output" else ["qkv"])

    @property
    def parts(self) -> Sequence[str]:
        """The components that are in what moves, each once."""
        parts = (part for moved in self.moved for part in ([moved] if self.form == "output" else moved))
        return list(dict.fromkeys(parts))
