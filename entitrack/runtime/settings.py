"""What may be set of `backend`, where weights are here; of a server, see `entitrack.runtime.ndif.settings`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from entitrack.core.settings import Settings


class FormSettings(Settings):
    """The form that interventions take."""

    place: ClassVar[str] = "backend"
    form: Literal["auto", "sandbox"] = Field(
        "auto", description="what interventions look like: `sandbox` as in NDIF's, for keys that are not trusted"
    )


class LocalSettings(FormSettings):
    """In this process."""


class DryRunSettings(FormSettings):
    """Nnsight's simulation of a server: everything is shipped by value, unpacked and run here."""
