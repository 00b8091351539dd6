"""Requests to the server: repeated while it may help, bounded, counted, and explained where it does not.

What comes back is read piece by piece up to a limit, as it is: a server is asked for nothing compressed. Redirects are
not followed. The key goes to the configured scheme, host and port, and nowhere else.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel

from entitrack.core.errors import UserError
from entitrack.core.notices import warn
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.addresses import parse, same_server
from entitrack.runtime.ndif.archive import TooLarge
from entitrack.runtime.ndif.failure import Again
from entitrack.runtime.ndif.payload import CorruptResult, read_state, unpack_state
from entitrack.runtime.ndif.saying import one_line, scrub
from entitrack.runtime.ndif.settings import Settings

_ASK = httpx.Timeout(10.0, read=60.0)
_SUBMIT = httpx.Timeout(10.0, read=600.0, write=600.0)
_LONGEST_WAIT_S = 60.0
_MOST_DOUBLED = 16
_FORBIDDEN = 403
_DENIED = (401, _FORBIDDEN)
_TOO_MANY = 429
_UNAVAILABLE = 503
_DOWN = (502, _UNAVAILABLE)
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_UNPROCESSABLE = 422
_GONE = (403, 404, 410)
_REDIRECT = 300
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_BINARY = "application/octet-stream"
_PAGE = 1 << 22
_COMPLAINT = 1 << 16
_KEY_FIX = "set NDIF_API_KEY or backend.key to one that it gave you (NDIF: https://login.ndif.us)"
_FIX = "ask who runs the server; what is finished is kept"


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: The status code.
        kind: The content's type.
        content: All of it; of an error only the beginning.
        reason: What the status code means, or where it leads to, in the server's words.
    """

    status: int
    kind: str
    content: bytes
    reason: str

    @property
    def is_error(self) -> bool:
        """Whether it is a complaint."""
        return self.status >= _CLIENT_ERROR


class Wire:
    """The way to one server.

    Attributes:
        away: When the server last seemed to be down (clock of `time.monotonic`); not where it could not be found.

    Args:
        settings: Address, key, limits, and how often a request is repeated.
        transport: What carries requests, where that is not the network.

    Raises:
        UserError: Connections cannot be made at all (a proxy in the environment that is none).
    """

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self.settings = settings
        self.away: float | None = None
        self._own = parse(settings.address)
        headers = {"accept-encoding": "identity"}
        try:
            self._client = httpx.Client(timeout=_ASK, headers=headers, transport=transport)
        except Exception as error:  # a proxy's address or a certificate file; the text may hold a password
            problem = f"no connection can be made with the proxy or certificates of this environment ({_kind(error)})"
            raise UserError(
                "backend.host", problem, fix="see HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"
            ) from None

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
            "python-version": one_line(sys.version),
        }
        files = {"blob": ("request", blob, _BINARY)}
        form: dict[str, Any] = {
            "data": {"data": request.metadata()},
            "files": files,
            "headers": headers,
            "timeout": _SUBMIT,
        }
        reply = self._ask("POST", f"{self.settings.address}/request", cost, _PAGE, **form)
        if reply.is_error:
            raise self._refusal(reply)
        state = self._state(self._page("/request", reply), "/request")
        cost.jobs += 1
        return state.id

    def state(self, job: str, cost: Cost) -> ResponseModel | None:
        """What the server says of a job; None if it says nothing (yet).

        Raises:
            UserError: What it says is damaged, too large, or about another job.
        """
        page = f"/response/{job}"
        reply = self._ask("GET", self.settings.address + page, cost, self.settings.max_result_bytes)
        if reply.is_error:
            return None
        if reply.kind.startswith(_BINARY):
            state = self._state(reply.content, page)
        else:
            state = self._state(self._page(page, reply), page)
        if state.id != job:
            raise self.malformed(page, "it is about another job")
        return state

    def result(self, data: Any, cost: Cost) -> bytes:
        """The bytes of a result: given with the job's state, or fetched from the address that it names.

        Raises:
            CorruptResult: There is none at that address, or it is no address that may be fetched from.
            Again: There is none any more: addresses are good for an hour.
        """
        if isinstance(data, bytes):
            return data
        try:
            url = parse(data)
        except ValueError as error:
            raise CorruptResult(f"what the server gives as its address {error}") from None
        if self._own.scheme == "https" and url.scheme != "https":
            raise CorruptResult("it would come from an address without https")
        reply = self._ask("GET", str(data), cost, self.settings.max_result_bytes, judges_key=False)
        if reply.status in _GONE:
            raise Again(f"its address has expired ({reply.status} {self._detail(reply)})")
        if reply.is_error:
            raise CorruptResult(f"its address answers {reply.status} ({self._detail(reply)})")
        return reply.content

    def page(self, path: str, cost: Cost) -> dict[str, Any] | None:
        """A page of the server; None if it has no such page.

        Raises:
            UserError: It is not what pages are made of.
        """
        reply = self._ask("GET", self.settings.address + path, cost, _PAGE)
        return None if reply.is_error else self._page(path, reply)

    def _ask(self, method: str, address: str, cost: Cost, most: int, judges_key: bool = True, **content: Any) -> Reply:
        """One request, repeated after a lost connection or an error of the server.

        A server that says that it will be back is waited for.
        """
        own = same_server(httpx.URL(address), self._own)
        headers = {**content.pop("headers", {}), **(self._key() if own else {})}
        begun, attempt = time.monotonic(), 0
        while True:
            reply, trouble, broken = self._attempt(method, address, cost, most, headers, **content)
            if own and judges_key and reply and reply.status in _DENIED:
                raise denied(self.settings, reply.status, self._detail(reply))
            if reply and not trouble:
                return reply
            if own and (broken or (reply and reply.status in _DOWN)):
                self.away = time.monotonic()
            patience = self.settings.reconnect_s if own and reply and reply.status == _UNAVAILABLE else 0.0
            if time.monotonic() - begun < patience:
                warn(f"{self.settings.address}: {trouble}; waiting for it, {patience:g} s at most")
            elif attempt >= self.settings.retries:
                fix = "what is finished is kept: run the same command again later"
                problem = f"{trouble} after {attempt + 1} attempts"
                raise UserError("backend.host", f"{self.settings.address}: {problem}", fix=fix)
            cost.retries += 1
            time.sleep(min(self.settings.backoff_s * 2 ** min(attempt, _MOST_DOUBLED), _LONGEST_WAIT_S))
            attempt += 1

    def _attempt(
        self, method: str, address: str, cost: Cost, most: int, headers: dict[str, str], **content: Any
    ) -> tuple[Reply | None, str, bool]:
        """The answer to a request, if there is one; what is wrong that may pass; whether the other end is gone."""
        try:
            reply = self._send(method, address, cost, most, headers, **content)
        except httpx.RequestError as error:
            return None, f"the connection failed ({_kind(error)}: {self._shown(error)})", _broken_off(error)
        if _REDIRECT <= reply.status < _CLIENT_ERROR:
            problem = f"the server answers {reply.status}, which leads elsewhere ({self._shown(reply.reason)})"
            raise UserError("backend.host", f"{self.settings.address}: {problem}", fix="name the address itself")
        if reply.status >= _SERVER_ERROR or reply.status == _TOO_MANY:
            return reply, f"the server answers {reply.status} ({self._detail(reply)})", False
        return reply, "", False

    def _send(self, method: str, address: str, cost: Cost, most: int, headers: dict[str, str], **content: Any) -> Reply:
        """One request, and its answer as far as it may be read."""
        with self._client.stream(method, address, headers=headers, **content) as answer:
            try:
                body = self._read(answer, most)
            finally:
                cost.wire_up += int(answer.request.headers.get("content-length", 0))
                cost.wire_down += answer.num_bytes_downloaded
            kind = answer.headers.get("content-type", "")
            return Reply(answer.status_code, kind, body, answer.headers.get("location") or answer.reason_phrase)

    def _read(self, answer: httpx.Response, most: int) -> bytes:
        """What an answer holds, read up to a limit and for a limited time; of an error only the beginning.

        Raises:
            UserError: There is more, or it is compressed though that was not asked for.
        """
        address = self.settings.address
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise UserError("backend.host", f"{address} sent a compressed answer, which was not asked for", fix=_FIX)
        until = time.monotonic() + self.settings.timeout_s
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if answer.status_code >= _REDIRECT and len(body) >= _COMPLAINT:
                return bytes(body[:_COMPLAINT])
            if len(body) > most:
                raise self._too_large(f"sent an answer of more than {most:,} bytes")
            if time.monotonic() > until:
                raise httpx.ReadTimeout("the answer takes too long", request=answer.request)
        return bytes(body)

    def _page(self, page: str, reply: Reply) -> dict[str, Any]:
        """A page's content."""
        if len(reply.content) > _PAGE:
            raise self.malformed(page, f"it has more than {_PAGE:,} bytes")
        try:
            content = json.loads(reply.content)
        except (ValueError, RecursionError):
            raise self.malformed(page, "it is not JSON") from None
        if not isinstance(content, dict):
            raise self.malformed(page, f"it is a {type(content).__name__}")
        return content

    def _state(self, content: dict[str, Any] | bytes, page: str) -> ResponseModel:
        """A job's state; what it says in words is shown later, so the key is taken out of it here."""
        try:
            if isinstance(content, bytes):
                state = unpack_state(content, self.settings.max_result_bytes)
            else:
                state = read_state(content)
        except TooLarge as error:
            raise self._too_large(f"sent a job's state that is too large: {error}") from error
        except CorruptResult as error:
            raise self.malformed(page, self._shown(error)) from error
        return state.model_copy(update={"description": scrub(state.description, self.settings.api_key)})

    def malformed(self, page: str, reason: str) -> UserError:
        """The complaint about a page that is not what the protocol says."""
        return UserError("backend.host", f"{self.settings.address}{page} is not what it should be: {reason}", fix=_FIX)

    def _too_large(self, problem: str) -> UserError:
        fix = "raise it if that is what you expect; what is finished is kept"
        return UserError("backend.max_result_bytes", f"{self.settings.address} {problem}", fix=fix)

    def _refusal(self, reply: Reply) -> UserError:
        """The complaint about a job that the server does not take; what is wrong it says in words alone."""
        said = self._detail(reply)
        problem = f"{self.settings.address} refused a job: {said}"
        if "api key" in said.lower():
            return UserError("backend.key", problem, fix=_KEY_FIX)
        if "version" in said.lower():
            return UserError("backend.host", problem, fix="install the nnsight and the Python that it asks for")
        if reply.status == _UNPROCESSABLE:
            fix = f"it may run another nnsight than the {version('nnsight')} here: install that one"
            return UserError("backend.host", f"{self.settings.address} cannot read the request: {said}", fix=fix)
        return UserError("backend.host", problem)

    def _key(self) -> dict[str, str]:
        return {"ndif-api-key": self.settings.api_key} if self.settings.api_key else {}

    def _shown(self, text: object) -> str:
        """A server's words as they may be shown."""
        return one_line(scrub(str(text), self.settings.api_key))

    def _detail(self, reply: Reply) -> str:
        """What a server says about an error."""
        text = reply.content.decode("utf-8", "replace").strip()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return self._shown(text or reply.reason)
        detail = body.get("detail", body) if isinstance(body, dict) else body
        return self._shown(detail if isinstance(detail, str) else text)


def denied(settings: Settings, status: int, reason: str) -> UserError:
    """The complaint about a key that is missing, not known, or not allowed what is asked for.

    Args:
        settings: Of the client.
        status: What the server answered.
        reason: Why, in its words.
    """
    problem = "the server wants a key and there is none"
    if settings.api_key:
        forbidden = "knows no such key, or does not allow it this"
        problem = f"the server {forbidden if status == _FORBIDDEN else 'does not know this key'}"
    return UserError("backend.key", f"{settings.address}: {problem} ({reason})", fix=_KEY_FIX)


def _broken_off(error: BaseException | None) -> bool:
    """Whether a connection failed because the other end broke it off, or nobody listens there."""
    if isinstance(error, _BROKEN):
        return True
    while error is not None and not isinstance(error, ConnectionRefusedError):
        error = error.__cause__ or error.__context__
    return error is not None


def _kind(error: Exception) -> str:
    return type(error).__name__
