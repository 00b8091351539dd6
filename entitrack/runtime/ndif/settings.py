"""What may be set of `backend=ndif`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from typing import ClassVar

from nnsight.schema.config import CONFIG

from entitrack.cli.limits import Checked, limited
from entitrack.core.errors import UserError
from entitrack.runtime.ndif.addresses import parse
from entitrack.runtime.ndif.saying import one_line

_KEY = re.compile(r"[!-~]+")
_LONGEST_KEY = 4096
_SECRET = ("host", "key")


@dataclass(repr=False)
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
        max_result_bytes: Most bytes that a job's result may have, on the way and unpacked.
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
    max_result_bytes: int = limited(1 << 28, least=1, most=1 << 40)

    def __repr__(self) -> str:
        """Without the address and the key: whatever is shown or logged of an object shows this."""
        shown = [f"{entry.name}={getattr(self, entry.name)!r}" for entry in fields(self) if entry.name not in _SECRET]
        return f"Settings({', '.join(shown)})"

    @property
    def address(self) -> str:
        """The server's address, without a slash at its end."""
        return (self.host or os.environ.get("NDIF_HOST") or CONFIG.API.HOST).rstrip("/")

    @property
    def api_key(self) -> str:
        """The API key; empty if there is none."""
        return self.key or os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY or ""

    def check(self) -> None:
        """Refuse an address that is none or holds a password, and a key that no server can have given.

        Neither a password nor a key is repeated.

        Raises:
            UserError: Naming the key of the configuration.
        """
        self._check_address()
        if self.api_key and not (_KEY.fullmatch(self.api_key) and len(self.api_key) <= _LONGEST_KEY):
            problem = "the key holds a line end, a space or another character that no key has, or is too long"
            raise UserError("backend.key", problem, fix="copy it again; it is not shown here")

    def _check_address(self) -> None:
        """Refuse an address that is none, or has more to it than a scheme, a host, a port and a path."""
        shown = "the address" if set("@?#") & set(self.address) else repr(one_line(self.address, 80))
        fix = "it is https://, a name and, if need be, a port and a path; the key goes to NDIF_API_KEY or backend.key"
        try:
            url = parse(self.address)
        except ValueError as error:
            raise UserError("backend.host", f"{shown} {error}", fix=fix) from None
        if url.query or url.fragment or set("?#") & set(self.address):
            raise UserError("backend.host", f"{shown} holds a query", fix=fix)
