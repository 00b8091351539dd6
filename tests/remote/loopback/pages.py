"""The pages of nnsight's protocol, and those by which a test orders mistakes and counts."""

# Annotations are evaluated: the web framework reads them.
import asyncio
import json
import os
import sys
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, File, Form, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from hosting import Job, Server
from nnsight.schema.request import RequestModel

PACKAGE = "entitrack"


class Pages:
    """What every page answers.

    Attributes:
        server: Where jobs run.
        key: The API key that is asked for; empty asks for none.
    """

    def __init__(self, server: Server, key: str) -> None:
        self.server, self.key = server, key

    def admit(self, request: Request) -> None:
        """Refuse a request without the key."""
        given = request.headers.get("ndif-api-key", "")
        if self.server.faults.due("denied") or (self.key and given != self.key):
            raise HTTPException(401, "Missing or unknown API key")

    async def submit(self, request: Request, data: str = Form(), blob: bytes = File()) -> Any:
        """Take a job, and put it in the queue."""
        self.server.posts += 1
        self.admit(request)
        if self.server.faults.due("unavailable"):
            raise HTTPException(503, "Service is restarting")
        if self.server.faults.due("queue_full"):
            raise HTTPException(429, "The queue is full")
        asked = RequestModel.model_validate_json(data)
        if asked.model_key not in self.server.models:
            raise HTTPException(404, "Model is not deployed")
        names = ("slow_queue", "hang", "drop_socket", "drop_poll", "corrupt", "inline", "forget")
        fault = next((name for name in names if self.server.faults.due(name)), "")
        job = Job(os.urandom(8).hex(), blob, asked, fault)
        self.server.jobs[job.id] = job
        self.server.say(job, "RECEIVED", "Your job has been received.")
        received = job.statuses[-1]
        self.server.say(job, "QUEUED")
        self.server.waiting.put(job)
        return JSONResponse(json.loads(received.model_dump_json()))

    async def response(self, name: str, request: Request) -> Any:
        """What has become of a job."""
        self.admit(request)
        job = self.server.jobs.get(name)
        if job is None:
            raise HTTPException(404, "Nothing is known of this job")
        if self.server.faults.due("poll_unavailable"):
            raise HTTPException(502, "Bad gateway")
        said = job.statuses[-1]
        if job.fault == "forget":
            del self.server.jobs[name]
        if job.fault == "drop_poll" and said.status.value in ("RUNNING", "COMPLETED"):
            job.fault = ""
            return StreamingResponse(self.torn(), headers={"content-length": "1000"})
        if job.fault == "inline" and said.status.value == "COMPLETED":
            whole = said.model_copy(update={"data": job.result})
            return Response(whole.pickle(), media_type="application/octet-stream")
        return JSONResponse(json.loads(said.model_dump_json()))

    async def result(self, name: str) -> Any:
        """A finished job's result."""
        job = self.server.jobs[name]
        content = job.result
        if job.fault == "corrupt" and self.server.faults.seconds["corrupt"] > 0:
            self.server.faults.seconds["corrupt"] -= 1
            middle = len(content) // 2
            content = content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
        return Response(content, media_type="application/octet-stream")

    async def cancel(self, name: str) -> Any:
        """Stop a job."""
        job = self.server.jobs[name]
        job.cancelled = True
        return {"message": f"Request {name} submitted for deletion"}

    async def subscribe(self, socket: WebSocket) -> None:
        """Say what becomes of jobs, as it happens."""
        await socket.accept()
        session = os.urandom(8).hex()
        listener: asyncio.Queue[Any] = asyncio.Queue()
        self.server.subscribers[session] = listener
        await socket.send_json({"session_id": session})
        while True:
            said = await listener.get()
            job = self.server.jobs[said.id]
            if said.status.value == "COMPLETED" and job.fault == "inline":
                await socket.send_bytes(said.model_copy(update={"data": job.result}).pickle())
            else:
                await socket.send_text(said.model_dump_json())
            if said.status.value == "RUNNING" and job.fault == "drop_socket":
                await socket.close(1011)
            if said.status.value in ("COMPLETED", "ERROR") or job.fault == "drop_socket" == said.status.value:
                return

    async def whoami(self, request: Request) -> Any:
        """Whose key it is."""
        self.admit(request)
        return {"email": "someone@localhost", "tags": ["trusted"]} if self.key else {"email": None, "tags": []}

    async def env(self) -> Any:
        """The versions that run here."""
        packages = {name: version(name) for name in ("torch", "transformers", "nnsight")}
        if self.server.faults.due("other_versions"):
            packages["nnsight"] = "0.7.0"
        return {"python_version": sys.version, "packages": packages}

    async def status(self) -> Any:
        """The models that are hosted."""
        hosted = [] if self.server.faults.due("not_hosted") else list(self.server.models)
        shown = {name: self.described(name) for name in hosted}
        return {"deployments": shown}

    def described(self, name: str) -> dict[str, Any]:
        """A hosted model as the protocol shows it."""
        named = json.loads(name.partition(":")[2])
        level = {"deployment_level": "HOT", "application_state": "RUNNING"}
        return {"model_key": name, "repo_id": named["repo_id"], "revision": "main", "task": named["task"], **level}

    async def order(self, name: str, times: int = 1, seconds: float = 0.0) -> Any:
        """Make a mistake, so many times."""
        self.server.faults.order(name, times, seconds)
        return {}

    async def need(self, value: str = "") -> Any:
        """Ask for this key from now on."""
        self.key = value
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
        cancelled = sum(job.cancelled for job in self.server.jobs.values())
        jobs = {"jobs": len(uploads), "executed": len(self.server.executed), "posts": self.server.posts}
        about = {"importable": importable, "pid": os.getpid()}
        return {**jobs, "uploads": uploads, "cancelled": cancelled, **about}

    async def torn(self) -> Any:
        """The beginning of an answer, then nothing."""
        yield b'{"id": '
        raise ConnectionResetError("ordered")


def application(server: Server, key: str) -> Any:
    """The server's pages."""
    app, pages = FastAPI(), Pages(server, key)
    for method, path, page in (
        ("POST", "/request", pages.submit),
        ("GET", "/response/{name}", pages.response),
        ("GET", "/result/{name}", pages.result),
        ("DELETE", "/request/{name}", pages.cancel),
        ("GET", "/whoami", pages.whoami),
        ("GET", "/env", pages.env),
        ("GET", "/status", pages.status),
        ("POST", "/control/fault", pages.order),
        ("POST", "/control/key", pages.need),
        ("POST", "/control/unpack", pages.unpack),
        ("GET", "/control/counts", pages.counts),
    ):
        app.add_api_route(path, page, methods=[method], response_model=None)
    app.add_api_websocket_route("/subscribe", pages.subscribe)
    return app
