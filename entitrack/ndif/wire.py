"""Requests to the server: repeated while it may help, counted, and explained where it does not."""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from typing import Any

import httpx
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel

from entitrack.backends import Cost
from entitrack.errors import UserError
from entitrack.ndif.payload import unpack_state
from entitrack.ndif.settings import Settings

_ASK = httpx.Timeout(10.0, read=60.0)
_SUBMIT = httpx.Timeout(10.0, read=600.0, write=600.0)
_LONGEST_WAIT_S = 60.0
_DENIED = (401, 403)
_TOO_MANY = 429
_SERVER_ERROR = 500
_BINARY = "application/octet-stream"


class Wire:
    """The way to one server.

    Args:
        settings: Address, key, and how often a request is repeated.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = httpx.Client(timeout=_ASK)

    def submit(self, request: RequestModel, blob: bytes, cost: Cost) -> str:
        """Hand in a job.

        A connection that breaks on the way may have handed it in: the job is then handed in again, and the first one
        runs for nobody.

        Returns:
            The job's id.

        Raises:
            UserError: The server does not take it.
        """
        headers = {
            "ndif-timestamp": repr(time.time()),
            "nnsight-version": version("nnsight"),
            "python-version": sys.version,
        }
        files = {"blob": ("request", blob, _BINARY)}
        form = {"data": {"data": request.metadata()}, "files": files, "headers": headers, "timeout": _SUBMIT}
        answer = self._ask("POST", "/request", cost, **form)
        if answer.is_error:
            raise UserError("backend.host", f"{self.settings.address} refused a job: {_detail(answer)}")
        cost.jobs += 1
        return ResponseModel.model_validate_json(answer.text).id

    def state(self, job: str, cost: Cost) -> ResponseModel | None:
        """What the server says of a job; None if it says nothing (yet)."""
        answer = self._ask("GET", f"/response/{job}", cost)
        if answer.is_error:
            return None
        if answer.headers.get("content-type", "").startswith(_BINARY):
            return unpack_state(answer.content)
        return ResponseModel.model_validate_json(answer.text)

    def result(self, data: Any, cost: Cost) -> bytes:
        """The bytes of a result: given with the job's state, or fetched from the address that it names."""
        if isinstance(data, (bytes, bytearray)):
            return bytes(data)
        answer = self._ask("GET", str(data), cost)
        return b"" if answer.is_error else answer.content

    def cancel(self, job: str, cost: Cost) -> None:
        """Ask the server to drop a job. Servers that cannot are not asked twice."""
        try:
            self._count(self._client.delete(f"{self.settings.address}/request/{job}", headers=self._key()), cost)
        except httpx.TransportError:
            return

    def json(self, path: str, cost: Cost) -> Any:
        """A page of the server; None if it has no such page."""
        answer = self._ask("GET", path, cost)
        return None if answer.is_error else answer.json()

    def _ask(self, method: str, path: str, cost: Cost, **content: Any) -> httpx.Response:
        """One request, repeated after a lost connection, an error of the server, or a full queue."""
        own = not path.startswith(("http://", "https://"))
        address = self.settings.address + path if own else path
        headers = {**content.pop("headers", {}), **(self._key() if own or self._is_own(path) else {})}
        trouble = ""
        for attempt in range(self.settings.retries + 1):
            if attempt:
                cost.retries += 1
                time.sleep(min(self.settings.backoff_s * 2 ** (attempt - 1), _LONGEST_WAIT_S))
            try:
                answer = self._client.request(method, address, headers=headers, **content)
            except httpx.TransportError as error:
                trouble = f"the connection failed ({type(error).__name__}: {error})"
                continue
            self._count(answer, cost)
            if own and answer.status_code in _DENIED:
                raise denied(self.settings, _detail(answer))
            if answer.status_code >= _SERVER_ERROR or answer.status_code == _TOO_MANY:
                trouble = f"the server answers {answer.status_code} ({_detail(answer)})"
                continue
            return answer
        times = f"{self.settings.retries + 1} attempts"
        fix = "what is finished is kept: run the same command again later"
        raise UserError("backend.host", f"{self.settings.address}: {trouble} after {times}", fix=fix)

    def _is_own(self, address: str) -> bool:
        """Whether an address is on the server itself; the key goes nowhere else."""
        return address.startswith(self.settings.address + "/")

    def _key(self) -> dict[str, str]:
        return {"ndif-api-key": self.settings.api_key} if self.settings.api_key else {}

    def _count(self, answer: httpx.Response, cost: Cost) -> None:
        cost.wire_up += int(answer.request.headers.get("content-length", 0))
        cost.wire_down += answer.num_bytes_downloaded


def denied(settings: Settings, reason: str) -> UserError:
    """The complaint about a key that is missing or not known."""
    problem = "the server does not know this key" if settings.api_key else "the server wants a key and there is none"
    return UserError("backend.key", f"{settings.address}: {problem} ({reason})", fix="set NDIF_API_KEY or backend.key")


def _detail(answer: httpx.Response) -> str:
    """What a server says about an error."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text.strip()[:200] or answer.reason_phrase
    return str(body.get("detail", body)) if isinstance(body, dict) else str(body)
