"""What may be set of `backend=ndif`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from nnsight.schema.config import CONFIG

from entitrack.errors import UserError
from entitrack.limits import Checked, limited


@dataclass
class Settings(Checked):
    """Settings of `backend=ndif`.

    Attributes:
        host: Address of the server; empty takes `NDIF_HOST` or what nnsight is configured with.
        key: API key; empty takes `NDIF_API_KEY` or what nnsight is configured with.
        in_flight: Most jobs that wait or run on the server at a time.
        timeout_s: Seconds after which a job that has not finished is cancelled.
        retries: How often a request is repeated after a lost connection, an error of the server or a full queue.
        backoff_s: Seconds before the first repetition; doubled every time.
        poll_s: Seconds between two questions after a job's state.
        check_versions: Refuse a server whose nnsight, torch or transformers differ from those here.
        max_jobs: Most jobs that a run may submit; null is no limit.
        max_upload_bytes: Most bytes that a run may send.
        max_seconds: Most seconds that a run's jobs may run on the server, summed.
    """

    place: ClassVar[str] = "backend"
    host: str | None = None
    key: str | None = None
    in_flight: int = limited(4, least=1, most=1000)
    timeout_s: float = limited(3600.0, above=0, most=1e7)
    retries: int = limited(6, least=0, most=1000)
    backoff_s: float = limited(1.0, least=0, most=3600)
    poll_s: float = limited(0.5, above=0, most=3600)
    check_versions: bool = True
    max_jobs: int | None = limited(None, least=0)
    max_upload_bytes: int | None = limited(None, least=0)
    max_seconds: float | None = limited(None, least=0)

    @property
    def address(self) -> str:
        """The server's address, without a slash at its end."""
        return (self.host or os.environ.get("NDIF_HOST") or CONFIG.API.HOST).rstrip("/")

    @property
    def api_key(self) -> str:
        """The API key; empty if there is none."""
        return self.key or os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or ""

    def check(self) -> None:
        """Refuse an address that is none.

        Raises:
            UserError: Naming the key.
        """
        if not self.address.startswith(("http://", "https://")):
            raise UserError("backend.host", f"{self.address!r} is not an address", fix="start it with https://")
