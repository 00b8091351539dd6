"""Hosted models, and the thread that executes jobs."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import torch
import zstandard
from guard import Guarded
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel
from nnsight.tracing.globals import BLOCKS, SOURCES
from nnsight.tracing.tracer import _saves, dec, inc
from transformers import AutoTokenizer
from transformers.utils import logging


@dataclass
class Job:
    """A request and what has become of it."""

    id: str
    blob: bytes
    request: Any
    fault: str
    statuses: list[Any] = field(default_factory=list)
    result: bytes = b""
    cancelled: bool = False


class Faults:
    """Mistakes to make: name -> how many times, and for how many seconds."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def order(self, name: str, times: int, seconds: float) -> None:
        self.times[name], self.seconds[name] = times, seconds

    def due(self, name: str) -> bool:
        if self.times.get(name, 0) <= 0:
            return False
        self.times[name] -= 1
        return True


class Server:
    """Hosted models, the queue, and one thread that executes."""

    def __init__(self, paths: list[str]) -> None:
        logging.disable_progress_bar()
        self.models = {}
        for path in paths:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = TransformersModel(path, task="text-generation", tokenizer=tokenizer, dispatch=True)
            model._module.eval().requires_grad_(False)
            self.models[self._key(path)] = model
        self.address = ""
        self.jobs: dict[str, Job] = {}
        self.subscribers: dict[str, asyncio.Queue[Any]] = {}
        self.faults = Faults()
        self.executed: list[str] = []
        self.posts = 0
        self.waiting: queue.Queue[Job] = queue.Queue()
        self.loop: asyncio.AbstractEventLoop | None = None
        threading.Thread(target=self._work, daemon=True).start()

    @staticmethod
    def _key(path: str) -> str:
        named = {"repo_id": path, "revision": None, "task": "text-generation"}
        return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(named)}"

    def say(self, job: Job, status: str, description: str = "", data: Any = None) -> None:
        """Note a job's new state, and tell whoever listens."""
        said = ResponseModel(id=job.id, status=status, description=description, data=data)
        job.statuses.append(said)
        listener = self.subscribers.get(job.request.session_id)
        if listener and self.loop:
            self.loop.call_soon_threadsafe(listener.put_nowait, said)

    def _work(self) -> None:
        while True:
            job = self.waiting.get()
            if job.fault == "slow_queue":
                self._sleep(job, "slow_queue")
            if not job.cancelled and job.fault != "forget":
                self._run(job)

    def _sleep(self, job: Job, fault: str) -> None:
        until = time.monotonic() + self.faults.seconds[fault]
        while time.monotonic() < until and not job.cancelled:
            time.sleep(0.01)

    def _run(self, job: Job) -> None:
        self.say(job, "DISPATCHED")
        self.say(job, "RUNNING", "Your job has started running.")
        if job.fault == "hang":
            self._sleep(job, "hang")
        if job.cancelled:
            return
        self.executed.append(job.id)
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                saved = self._execute(job)
            stream = io.BytesIO()
            torch.save(saved, stream)
        except BaseException:
            self.say(job, "ERROR", traceback.format_exc())
            return
        job.result = zstandard.compress(stream.getvalue()) if job.request.compress else stream.getvalue()
        self.say(job, "COMPLETED", "Your job has been completed.", f"{self.address}/result/{job.id}")

    def unpack(self, request: RequestModel, blob: bytes) -> Any:
        """A session's code, ready to run on the model that the request names."""
        model = self.models[request.model_key]
        model._remoteable_set_env(request.env)
        SOURCES.clear()  # keyed by the client's file and line: what is there may be of another version
        BLOCKS.clear()
        known = model._remoteable_persistent_objects()
        return RequestModel.deserialize(blob, known, request.compress, unpickler=Guarded)

    def _execute(self, job: Job) -> dict[str, Any]:
        """The values that the session's code saves."""
        tracer = self.unpack(job.request, job.blob)
        inc()
        try:
            tracer.execute(tracer.info.code)
            found = tracer.info.frame.f_locals
            return {name: value for name, value in found.items() if id(value) in _saves()}
        finally:
            dec()
