"""What may be set of `model`: a family, as a file of `conf/model/` names it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from entitrack.core.errors import UserError
from entitrack.core.names import check_name
from entitrack.core.settings import Settings
from entitrack.models.checkpoint import Checkpoint


class FamilySettings(Settings):
    """A base and its donors, and what they run in."""

    place: ClassVar[str] = "model"
    name: str = Field(description="name of the family")
    base: str = Field(description="name of the member that is the base")
    donor: str | None = Field(None, description="the usual donor; another one is chosen with donor=NAME")
    members: dict[str, Checkpoint] = Field({}, description="name of a member -> its checkpoint")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what the weights are held in; effects are computed in float32"
    )
    device: str | dict[str, str] = Field(
        "auto",
        description="auto takes an accelerator where there is one; cpu, cuda, cuda:0, mps; balanced spreads layers over"
        " all CUDA devices; or {part: device}, as accelerate takes it",
    )
    held: int | None = Field(
        None,
        ge=1,
        description="members whose weights are in memory at once, adapters counted with their base; null: the two used"
        " last, and more as long as all together take at most 1 GiB",
    )
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="implementation of attention")
    architecture: dict[str, Any] = Field(
        {},
        description="how the models are built, where entitrack does not know it: layers, o_proj, projections and the"
        " other fields of entitrack.models.anatomy.Architecture",
    )

    @model_validator(mode="after")
    def _names_members(self) -> FamilySettings:
        """Refuse names that cannot be shown, and a base or a donor that is not a member."""
        check_name(self.name, "model.name")
        for name in self.members:
            check_name(name, f"model.members.{name}", reserved=("n",))
        self.member(self.base, "model.base")
        if self.donor is not None:
            self.member(self.donor, "model.donor")
        return self

    def member(self, name: str, place: str) -> Checkpoint:
        """Where the weights of a member are.

        Raises:
            UserError: There is no such member; `place` is the config key that named it.
        """
        if name not in self.members:
            raise UserError(place, f"family {self.name!r} has no member {name!r}", self.members)
        return self.members[name]
