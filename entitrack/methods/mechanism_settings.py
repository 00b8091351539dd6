"""What every method may be told that looks for a mechanism, and so needs a model that does the task."""

from __future__ import annotations

from pydantic import Field

from entitrack.core.settings import MethodSettings


class MechanismSettings(MethodSettings):
    """Base of what methods may be told whose findings mean nothing in a model at chance; see `ability`."""

    force: bool = Field(False, description="go on in a model at chance, or one that is right in fewer than 10 contexts")
