"""The pages of nnsight's protocol, and those by which a test orders mistakes and counts."""

# Annotations are evaluated: the web framework reads them.
import asyncio
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI, File, Form, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from hosting import Job, Server
from nnsight.schema.request import RequestModel
from pydantic import ValidationError

PACKAGE = "entitrack"
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
JOB_FAULTS = (
    "slow_dispatch", "slow_queue", "hang", "drop_socket", "drop_poll", "corrupt", "forget", "strand", "expire", "purge"
)  # fmt: skip


class Pages:
    """What every page answers.

    Attributes:
        server: Where jobs run.
        key: The API key that is asked for; empty asks for none.
        tags: Those of the key.
        status_age: Seconds that the list of models is kept.
    """

    def __init__(self, server: Server, key: str, status_age: float) -> None:
        self.server, self.key, self.status_age = server, key, status_age
        self.tags = ["trusted"]
        self._listed: tuple[float, dict[str, Any]] = (0.0, {})

    def connected(self) -> None:
        """Refuse a request while what computes is away."""
        if self.server.faults.due("reconnecting"):
            raise HTTPException(503, "Service temporarily unavailable: compute backend is reconnecting.")

    def admit(self, given: str) -> None:
        """Refuse a job without the key."""
        if not self.key:
            return
        if not given:
            raise HTTPException(401, "Missing or invalid API key.")
        try:
            UUID(given)
        except ValueError:
            raise HTTPException(400, f"Invalid API key format: '{given}'.") from None
        if given != self.key:
            raise HTTPException(403, "Invalid API key.")

    async def submit(self, request: Request, data: str = Form(), blob: bytes = File()) -> Any:
        """Take a job, and put it in the queue."""
        self.server.posts += 1
        self.connected()
        try:
            asked = RequestModel.model_validate_json("{}" if self.server.faults.due("unprocessable") else data)
        except ValidationError as error:
            raise HTTPException(422, json.loads(error.json(include_url=False))) from error
        self.admit(request.headers.get("ndif-api-key", ""))
        if self.server.faults.due("old_client"):
            raise HTTPException(400, "Client nnsight version 0.8.1 is below the minimum supported 0.9.0.")
        fault = next((name for name in JOB_FAULTS if self.server.faults.due(name)), "")
        trusted = "trusted" in self.tags if self.key else json.loads(data).get("trusted", True)
        job = Job(blob, asked, fault, trusted)
        self.server.jobs[job.id] = job
        received = {"id": job.id, "status": "RECEIVED", "description": "Your job has been received."}
        self.server.incoming.put(job)
        return JSONResponse(received)

    async def response(self, name: str) -> Any:
        """What has become of a job that nobody listens to: what was said of it last."""
        job = self.server.jobs.get(name)
        if job is None or not job.statuses or job.request.session_id:
            raise HTTPException(404, f"No response for request {name}.")
        if self.server.faults.due("poll_unavailable"):
            raise HTTPException(502, "Bad gateway")
        said = job.statuses[-1]
        if job.fault == "forget":
            del self.server.jobs[name]
        if job.fault == "drop_poll" and said.status.value in ("RUNNING", "COMPLETED"):
            job.fault = ""
            return StreamingResponse(self.torn(), headers={"content-length": "1000"})
        return JSONResponse(json.loads(said.model_dump_json()))

    async def result(self, name: str) -> Any:
        """A finished job's result, as long as its address is good."""
        job = self.server.jobs[name]
        if job.fault == "expire":
            return Response(EXPIRED, 403, media_type="application/xml")
        content = job.result
        if job.fault == "corrupt" and self.server.faults.seconds["corrupt"] > 0:
            self.server.faults.seconds["corrupt"] -= 1
            middle = len(content) // 2
            content = content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
        return Response(content, media_type="application/octet-stream")

    async def subscribe(self, socket: WebSocket) -> None:
        """Say what becomes of jobs, as it happens; a small result comes with it."""
        await socket.accept()
        session = uuid4().hex
        listener: asyncio.Queue[Any] = asyncio.Queue()
        self.server.subscribers[session] = listener
        await socket.send_json({"session_id": session})
        while True:
            said = await listener.get()
            if isinstance(said.data, bytes):
                await socket.send_bytes(said.pickle())
            else:
                await socket.send_text(said.model_dump_json())
            if said.status.value == "RUNNING" and self.server.jobs[said.id].fault == "drop_socket":
                await socket.close(1011)
                return
            if said.status.value in ("COMPLETED", "ERROR"):
                return

    async def whoami(self, request: Request) -> Any:
        """Whose key it is; of one that is not known nothing is said, and no error."""
        if self.key and request.headers.get("ndif-api-key") == self.key:
            return {"email": "someone@localhost", "tags": self.tags}
        return {"email": None, "tags": []}

    async def env(self) -> Any:
        """The versions that run here."""
        self.connected()
        packages = {name: version(name) for name in ("torch", "transformers", "nnsight")}
        for name, other in (("nnsight", "0.7.0"), ("torch", "2.1.0"), ("transformers", "4.57.0")):
            if self.server.faults.due(f"other_{name}"):
                packages[name] = other
        python = "3.9.1 (main)" if self.server.faults.due("old_python") else sys.version
        return {"python_version": python, "packages": packages}

    async def status(self) -> Any:
        """The models, as they were when somebody asked last."""
        self.connected()
        if self.server.faults.due("status_timeout"):
            raise HTTPException(504, "Timed out waiting for cluster status.")
        until, shown = self._listed
        if time.monotonic() >= until:
            shown = {} if self.server.faults.due("not_listed") else self.server.deployments()
            self._listed = time.monotonic() + self.status_age, shown
        return {"deployments": shown, "cluster": {"nodes": {}}}

    async def order(self, name: str, times: int = 1, seconds: float = 0.0) -> Any:
        """Make a mistake, so many times; what was listed before is old."""
        self.server.faults.order(name, times, seconds)
        self._listed = 0.0, {}
        return {}

    async def set(self, key: str | None = None, tags: str | None = None, status_age: float | None = None) -> Any:
        """Ask for this key from now on, which has these tags; keep the list of models so long."""
        self.key = self.key if key is None else key
        self.tags = self.tags if tags is None else tags.split()
        self.status_age = self.status_age if status_age is None else status_age
        self._listed = (0.0, {})
        return {}

    async def evict(self, path: str) -> Any:
        """Take a model down."""
        self.server.evict(path)
        return {}

    async def unpack(self, data: str = Form(), blob: bytes = File()) -> Any:
        """Unpack a job's body, and say whether that worked."""
        try:
            self.server.unpack(RequestModel.model_validate_json(data), blob)
        except Exception as error:
            raise HTTPException(400, f"{type(error).__name__}: {error}") from error
        return {}

    async def counts(self) -> Any:
        """What was asked for so far."""
        try:
            __import__(PACKAGE)
        except ModuleNotFoundError:
            importable = False
        else:
            importable = True
        uploads = [len(job.blob) for job in self.server.jobs.values()]
        jobs = {"jobs": len(uploads), "executed": len(self.server.executed), "posts": self.server.posts}
        return {**jobs, "uploads": uploads, "importable": importable, "pid": os.getpid()}

    async def torn(self) -> Any:
        """The beginning of an answer, then nothing."""
        yield b'{"id": '
        raise ConnectionResetError("ordered")


def application(server: Server, key: str, status_age: float) -> Any:
    """The server's pages."""
    app, pages = FastAPI(), Pages(server, key, status_age)
    for method, path, page in (
        ("POST", "/request", pages.submit),
        ("GET", "/response/{name}", pages.response),
        ("GET", "/result/{name}", pages.result),
        ("GET", "/whoami", pages.whoami),
        ("GET", "/env", pages.env),
        ("GET", "/status", pages.status),
        ("POST", "/control/fault", pages.order),
        ("POST", "/control/set", pages.set),
        ("POST", "/control/evict", pages.evict),
        ("POST", "/control/unpack", pages.unpack),
        ("GET", "/control/counts", pages.counts),
    ):
        app.add_api_route(path, page, methods=[method], response_model=None)
    app.add_api_websocket_route("/subscribe", pages.subscribe)
    return app
