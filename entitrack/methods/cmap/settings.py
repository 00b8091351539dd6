"""What `method=cmap` may be told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.errors import UserError, quoted
from entitrack.core.quirks import Quirk
from entitrack.core.settings import MethodSettings

OUTPUTS = ("z", *WITHOUT_HEADS)
INPUTS = ("q", "k", "v", "qk", "qv", "kv", "qkv")

if TYPE_CHECKING:
    Component = str
else:
    Component = Literal[(*OUTPUTS, *INPUTS)]


class Settings(MethodSettings):
    """Which group, taken from the donor, makes the base as good? (section 6)."""

    needs_donor: ClassVar[bool] = True
    needs_circuit: ClassVar[bool] = True
    quirks: ClassVar[Collection[Quirk]] = (Quirk.DONOR_CIRCUIT, Quirk.HELD_GROUP, Quirk.ONE_POSITION)

    groups: list[str] = Field([], description="groups to transplant one by one; empty: all of the circuit's")
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
    recipient: str | None = Field(None, description="member that the donor's activations are put into; null: the base")
    units: Literal["groups", "heads", "layers"] = Field(
        "groups", description="what moves by itself: a group, each of its heads, or what it has in each layer"
    )
    controls: int = Field(
        100,
        ge=0,
        le=100_000,
        description="random sets of heads, of each kind, that groups are held against; 0: none",
    )
    control_prompts: int | None = Field(
        168, ge=1, description="prompts that these are transplanted on, the task's first; null: all"
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
