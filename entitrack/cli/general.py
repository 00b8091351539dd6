"""What is set outside of all sections of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from entitrack.core.errors import UserError
from entitrack.core.settings import Settings

_EMPTY = {
    "donor": "name a member of the family",
    "circuit": "circuit=null takes the base's own",
    "output_dir": "name a folder",
    "store": "store=null keeps nothing",
}
"""Texts that may not be empty, and what to write instead."""


Memory = Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""GiB, or `auto`."""


class GeneralSettings(Settings):
    """What every run has."""

    donor: str | None = Field(
        None, description="member of the family that activations come from, for methods that need one"
    )
    circuit: str | None = Field(
        None, description="a circuit.json, or the name of one that the family ships; null: the base's own"
    )
    compat: Literal["default", "paper"] = Field(
        "default", description="paper: follow the published code where it differs from the paper's text"
    )
    batch_size: int = Field(84, ge=1, le=65536, description="prompts in a session")
    memory: Memory = Field(
        "auto", description="for what goes through a model at once: GiB, or auto: half of a free accelerator, else 1"
    )
    padding: Literal["right", "left"] = Field("right", description="side on which shorter prompts are padded")
    seed: int = Field(0, ge=0, lt=2**63, description="of everything drawn outside the task")
    output_dir: str = Field("outputs", description="runs land in output_dir/METHOD/TIME")
    store: str | None = Field(
        None, description="where finished work is kept and never computed again; null keeps nothing"
    )
    study: dict[str, str | None] | None = Field(
        None, description="runs of a study, in order: a name and the words of each; see conf/experiment/paper.yaml"
    )

    @field_validator(*_EMPTY)
    @classmethod
    def _says_something(cls, text: str | None, info: ValidationInfo) -> str | None:
        key = str(info.field_name)
        if text is not None and not text.strip():
            raise UserError(key, "is empty", fix=_EMPTY[key])
        if text is not None and "\0" in text:
            raise UserError(key, f"{text!r} has a null character in it")
        return text
