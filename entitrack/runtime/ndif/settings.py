"""What may be set of `backend=ndif`."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

from pydantic import Field

from entitrack.core.errors import UserError
from entitrack.runtime.ndif.saying import one_line
from entitrack.runtime.settings import FormSettings

_KEY = re.compile(r"[!-~]+")
_LONGEST_KEY = 4096


class Settings(FormSettings):
    """On a server: NDIF, or one that speaks its protocol. No weights here; models are named as the server hosts them.

    What is shown or logged of an object has neither the address nor the key in it.
    """

    host: str | None = Field(
        None, repr=False, description="https://...; null: NDIF_HOST, or what nnsight is configured with"
    )
    key: str | None = Field(
        None,
        repr=False,
        description="API key; null: NDIF_API_KEY, or what nnsight is configured with, which is better than giving it"
        " here",
    )
    in_flight: int = Field(4, ge=1, le=1000, description="most jobs that wait or run on the server at a time")
    deploy: Literal["auto", "never"] = Field(
        "auto", description="a model that is not up there: `auto` has it brought up by a first job, `never` refuses it"
    )
    deploy_timeout_s: float = Field(3600.0, gt=0, le=1e7, description="seconds that a model may take to be brought up")
    status_age_s: float = Field(
        60.0, ge=0, le=3600, description="seconds that the server's list of models may be old; waited for before a no"
    )
    timeout_s: float = Field(
        3600.0, gt=0, le=1e7, description="seconds; a job that takes longer is no more waited for, and goes on there"
    )
    reconnect_s: float = Field(
        600.0, ge=0, le=1e7, description="seconds to wait for a server that says that it will be back (503)"
    )
    requeue_s: float = Field(
        60.0,
        ge=0,
        le=1e7,
        description="seconds until a job that waits is submitted again, if a server that was away"
        " seems to have forgotten it",
    )
    retries: int = Field(6, ge=0, le=1000, description="after a lost connection, or an error of the server")
    backoff_s: float = Field(1.0, ge=0, le=3600, description="seconds before the first retry, doubled every time")
    poll_s: float = Field(0.5, gt=0, le=3600, description="seconds between two questions after a job's state")
    check_versions: bool = Field(
        True, description="refuse a server whose nnsight, torch, transformers or Python cannot run what is sent"
    )
    max_jobs: int | None = Field(
        None, ge=0, description="budget: a run that would submit more jobs is refused, with the estimate; null: none"
    )
    max_upload_bytes: int | None = Field(None, ge=0, description="budget: most bytes that a run may send; null: none")
    max_seconds: float | None = Field(
        None, ge=0, description="budget: most seconds on the server, summed over jobs; null: none"
    )
    max_result_bytes: int = Field(
        1 << 28, ge=1, le=1 << 40, description="most bytes that a job's result may have, on the way and unpacked"
    )

    @property
    def address(self) -> str:
        """The server's address, without a slash at its end."""
        return (self.host or os.environ.get("NDIF_HOST") or _nnsight().API.HOST).rstrip("/")

    @property
    def api_key(self) -> str:
        """The API key; empty if there is none."""
        return self.key or os.environ.get("NDIF_API_KEY") or _nnsight().API.APIKEY or ""

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
        from entitrack.runtime.ndif.addresses import parse

        shown = "the address" if set("@?#") & set(self.address) else repr(one_line(self.address, 80))
        fix = "it is https://, a name and, if need be, a port and a path; the key goes to NDIF_API_KEY or backend.key"
        try:
            url = parse(self.address)
        except ValueError as error:
            raise UserError("backend.host", f"{shown} {error}", fix=fix) from None
        if url.query or url.fragment or set("?#") & set(self.address):
            raise UserError("backend.host", f"{shown} holds a query", fix=fix)


def _nnsight() -> Any:
    """What nnsight is configured with; importing it takes a second."""
    from nnsight.schema.config import CONFIG

    return CONFIG
