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


def application(server: Server, key: str) -> Any:
    """The server's pages."""
    app = FastAPI()

    def admit(request: Request) -> None:
        given = request.headers.get("ndif-api-key", "")
        if server.faults.due("denied") or (key and given != key):
            raise HTTPException(401, "Missing or unknown API key")

    @app.post("/request")
    async def submit(request: Request, data: str = Form(), blob: bytes = File()) -> Any:
        server.posts += 1
        admit(request)
        if server.faults.due("unavailable"):
            raise HTTPException(503, "Service is restarting")
        if server.faults.due("queue_full"):
            raise HTTPException(429, "The queue is full")
        asked = RequestModel.model_validate_json(data)
        if asked.model_key not in server.models:
            raise HTTPException(404, "Model is not deployed")
        names = ("slow_queue", "hang", "drop_socket", "drop_poll", "corrupt", "inline", "forget")
        fault = next((name for name in names if server.faults.due(name)), "")
        job = Job(os.urandom(8).hex(), blob, asked, fault)
        server.jobs[job.id] = job
        server.say(job, "RECEIVED", "Your job has been received.")
        received = job.statuses[-1]
        server.say(job, "QUEUED")
        server.waiting.put(job)
        return JSONResponse(json.loads(received.model_dump_json()))

    @app.get("/response/{name}")
    async def response(name: str, request: Request) -> Any:
        admit(request)
        job = server.jobs.get(name)
        if job is None:
            raise HTTPException(404, "Nothing is known of this job")
        if server.faults.due("poll_unavailable"):
            raise HTTPException(502, "Bad gateway")
        said = job.statuses[-1]
        if job.fault == "forget":
            del server.jobs[name]
        if job.fault == "drop_poll" and said.status.value in ("RUNNING", "COMPLETED"):
            job.fault = ""
            return StreamingResponse(torn(), headers={"content-length": "1000"})
        if job.fault == "inline" and said.status.value == "COMPLETED":
            whole = said.model_copy(update={"data": job.result})
            return Response(whole.pickle(), media_type="application/octet-stream")
        return JSONResponse(json.loads(said.model_dump_json()))

    @app.get("/result/{name}")
    async def result(name: str) -> Any:
        job = server.jobs[name]
        content = job.result
        if job.fault == "corrupt" and server.faults.seconds["corrupt"] > 0:
            server.faults.seconds["corrupt"] -= 1
            middle = len(content) // 2
            content = content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
        return Response(content, media_type="application/octet-stream")

    @app.delete("/request/{name}")
    async def cancel(name: str) -> Any:
        job = server.jobs[name]
        job.cancelled = True
        return {"message": f"Request {name} submitted for deletion"}

    @app.websocket("/subscribe")
    async def subscribe(socket: WebSocket) -> None:
        await socket.accept()
        session = os.urandom(8).hex()
        listener: asyncio.Queue[Any] = asyncio.Queue()
        server.subscribers[session] = listener
        await socket.send_json({"session_id": session})
        while True:
            said = await listener.get()
            job = server.jobs[said.id]
            if said.status.value == "COMPLETED" and job.fault == "inline":
                await socket.send_bytes(said.model_copy(update={"data": job.result}).pickle())
            else:
                await socket.send_text(said.model_dump_json())
            if said.status.value == "RUNNING" and job.fault == "drop_socket":
                await socket.close(1011)
            if said.status.value in ("COMPLETED", "ERROR") or job.fault == "drop_socket" == said.status.value:
                return

    @app.get("/whoami")
    async def whoami(request: Request) -> Any:
        admit(request)
        return {"email": "someone@localhost" if key else None, "tags": []}

    @app.get("/env")
    async def env() -> Any:
        packages = {name: version(name) for name in ("torch", "transformers", "nnsight")}
        if server.faults.due("other_versions"):
            packages["nnsight"] = "0.7.0"
        return {"python_version": sys.version, "packages": packages}

    @app.get("/status")
    async def status() -> Any:
        hosted = [] if server.faults.due("not_hosted") else list(server.models)
        shown = {name: described(name) for name in hosted}
        return {"deployments": shown}

    def described(name: str) -> dict[str, Any]:
        named = json.loads(name.partition(":")[2])
        level = {"deployment_level": "HOT", "application_state": "RUNNING"}
        return {"model_key": name, "repo_id": named["repo_id"], "revision": "main", "task": named["task"], **level}

    @app.post("/control/fault")
    async def order(name: str, times: int = 1, seconds: float = 0.0) -> Any:
        server.faults.order(name, times, seconds)
        return {}

    @app.post("/control/key")
    async def need(value: str = "") -> Any:
        nonlocal key
        key = value
        return {}

    @app.post("/control/unpack")
    async def unpack(data: str = Form(), blob: bytes = File()) -> Any:
        try:
            server.unpack(RequestModel.model_validate_json(data), blob)
        except Exception as error:
            raise HTTPException(400, f"{type(error).__name__}: {error}") from error
        return {}

    @app.get("/control/counts")
    async def counts() -> Any:
        try:
            __import__(PACKAGE)
        except ModuleNotFoundError:
            importable = False
        else:
            importable = True
        uploads = [len(job.blob) for job in server.jobs.values()]
        jobs = {"jobs": len(server.jobs), "executed": len(server.executed), "posts": server.posts, "uploads": uploads}
        cancelled = sum(job.cancelled for job in server.jobs.values())
        return {**jobs, "cancelled": cancelled, "importable": importable, "pid": os.getpid()}

    async def torn() -> Any:
        yield b'{"id": '
        raise ConnectionResetError("ordered")

    return app
