"""What may be set of `backend`, where weights are here; of a server, see `entitrack.runtime.ndif.settings`."""

from __future__ import annotations

from typing import ClassVar

from entitrack.core.settings import Settings


class LocalSettings(Settings):
    """In this process."""

    place: ClassVar[str] = "backend"


class DryRunSettings(Settings):
    """Nnsight's simulation of a server: everything is shipped by value, unpacked and run here."""

    place: ClassVar[str] = "backend"
