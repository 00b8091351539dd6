"""Hosted models, the queue, and the thread that executes jobs."""

from __future__ import annotations

import asyncio
import io
import json
import queue
import threading
import time
import traceback
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import zstandard
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel
from nnsight.tracing.globals import BLOCKS, SOURCES
from nnsight.tracing.tracer import _saves, dec, inc
from nnsight.tracing.util import clean_traceback, filter_traceback
from sandbox import Sandbox
from transformers import AutoTokenizer
from transformers.utils import logging

MOST_ON_SOCKET = 8 << 20
"""Bytes of a result that a websocket carries; a larger one is fetched from its address."""
GIB = 1 << 30


@dataclass
class Job:
    """A request and what has become of it."""

    blob: bytes
    request: Any
    fault: str
    trusted: bool = True
    id: str = field(default_factory=lambda: uuid4().hex)
    statuses: list[Any] = field(default_factory=list)
    result: bytes = b""
    expired: bool = False


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
    """Hosted models, the queue, and one thread that executes.

    Args:
        hot: Folders of models that take jobs at once.
        cold: Folders of models that the first request brings up.
    """

    def __init__(self, hot: list[str], cold: list[str]) -> None:
        logging.disable_progress_bar()
        self.sandbox = Sandbox()
        self.models: dict[str, Any] = {self._key(path): self._load(path) for path in hot}
        self.cold = {self._key(path): path for path in cold}
        self.results = ""
        self.jobs: dict[str, Job] = {}
        self.subscribers: dict[str, asyncio.Queue[Any]] = {}
        self.faults = Faults()
        self.executed: list[str] = []
        self.posts = 0
        self.incoming: queue.Queue[Job] = queue.Queue()
        self.parked: dict[str, list[Job]] = defaultdict(list)
        self.waiting: queue.Queue[Job] = queue.Queue()
        self.loop: asyncio.AbstractEventLoop | None = None
        for work in (self._dispatch, self._work):
            threading.Thread(target=work, daemon=True).start()

    @staticmethod
    def _key(path: str) -> str:
        named = {"repo_id": path, "revision": None, "task": "text-generation"}
        return f"nnsight.modeling.transformers.TransformersModel:{json.dumps(named)}"

    def _load(self, path: str) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model = TransformersModel(path, task="text-generation", tokenizer=tokenizer, dispatch=True)
        model._module.eval().requires_grad_(False)
        self.sandbox.enclose(model)
        model._module.register_forward_pre_hook(self._refuse_large, with_kwargs=True)
        return model

    def _refuse_large(self, module: Any, args: Any, kwargs: Any) -> None:
        """Run out of memory on batches of more prompts than were ordered."""
        most = self.faults.times.get("memory_for", 0)
        tokens = kwargs.get("input_ids", args[0] if args else None)
        if most and tokens is not None and len(tokens) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total of 8 GiB.")

    def evict(self, path: str) -> None:
        """Take a model down, so that the next request has to bring it up."""
        key = self._key(path)
        self.models.pop(key, None)
        self.cold[key] = path

    def say(self, job: Job, status: str, description: str = "", data: Any = None, meta: Any = None) -> None:
        """Note a job's new state, and tell whoever listens."""
        said = ResponseModel(id=job.id, status=status, description=description, data=data, meta=meta)
        job.statuses.append(said)
        listener = self.subscribers.get(job.request.session_id)
        if listener and self.loop:
            self.loop.call_soon_threadsafe(listener.put_nowait, said)

    def _dispatch(self) -> None:
        """Route jobs to their models, and bring those up that are not."""
        while True:
            job = self.incoming.get()
            if job.fault == "slow_dispatch":
                time.sleep(self.faults.seconds["slow_dispatch"])
            key = job.request.model_key
            if key in self.models:
                self.say(job, "QUEUED", f"Added to Queue at position {self.waiting.qsize() + 1}.")
                if job.fault != "strand":
                    self.waiting.put(job)
                continue
            self.say(job, "PROVISIONING", "Model Provisioning...")
            self.parked[key].append(job)
            if len(self.parked[key]) == 1:
                threading.Thread(target=self._deploy, args=(key,), daemon=True).start()

    def _deploy(self, key: str) -> None:
        """Bring a model up, and let those that wait for it go on."""
        pause = self.faults.seconds["slow_deploy"] if self.faults.due("slow_deploy") else 0.0
        time.sleep(pause)
        reason = ""
        if self.faults.due("undeployable"):
            reason = "CANT_ACCOMMODATE: placed 0 of 1 new replicas"
        elif key not in self.cold:
            reason = '404 Client Error.\n\nRepository Not Found.\nTraceback (most recent call last):\n  File "x.py"\n'
        if not reason:
            for job in self.parked[key]:
                self.say(job, "DEPLOYING", "Model Deploying...")
            time.sleep(pause)
            self.models[key] = self._load(self.cold.pop(key))
        for place, job in enumerate(self.parked.pop(key), 1):
            if reason:
                self.say(job, "ERROR", f"Could not deploy this model. {reason}")
            else:
                self.say(job, "QUEUED", f"Moved to position {place} in Queue.")
                self.waiting.put(job)

    def _work(self) -> None:
        while True:
            job = self.waiting.get()
            if job.fault in ("slow_queue", "hang"):
                self.say(job, "DISPATCHED" if job.fault == "slow_queue" else "RUNNING")
                time.sleep(self.faults.seconds[job.fault])
            if job.fault == "purge":
                self.say(job, "ERROR", "Critical server error occurred. Please try again later.")
            elif job.fault != "forget":
                self._run(job, self.faults.seconds["hang"] if job.fault == "hang" else 0.0)

    def _run(self, job: Job, hung: float) -> None:
        self.say(job, "DISPATCHED", "Your job has been sent to the model deployment.")
        self.say(job, "RUNNING", "Your job has started running.")
        self.executed.append(job.id)
        begun = time.monotonic() - hung
        try:
            tracer = self._unpacked(job)
            with nullcontext() if job.trusted else self.sandbox:
                saved = self._execute(tracer, self.models[job.request.model_key])
            stream = io.BytesIO()
            torch.save(saved, stream)
        except Unreadable as error:
            self.say(job, "ERROR", str(error), meta=self.usage(begun))
            return
        except BaseException as error:
            shown = filter_traceback(
                clean_traceback(error.__traceback__), lambda frame: frame.f_code.co_filename != __file__
            )
            said = "".join(traceback.format_exception(type(error), error, shown))
            self.say(job, "ERROR", said, meta=self.usage(begun, error))
            return
        content = stream.getvalue()
        job.result = zstandard.compress(content) if job.request.compress else content
        fits = job.request.session_id and len(job.result) <= MOST_ON_SOCKET
        data = job.result if fits else f"{self.results}/result/{job.id}?X-Amz-Expires=3600"
        self.say(job, "COMPLETED", "Your job has been completed.", data, self.usage(begun))

    def usage(self, begun: float, error: BaseException | None = None) -> dict[str, Any]:
        """What a job took; of memory, as on a GPU where that is ordered."""
        taken = {"0": GIB} if self.faults.times.get("memory_for") or self.faults.times.get("memory") else {}
        meta: dict[str, Any] = {
            "runtime": round(time.monotonic() - begun, 4),
            "max_memory_usage": max(taken.values(), default=0),
            "max_mem_by_gpu": taken,
            "max_mem_pct_by_gpu": dict.fromkeys(taken, 25.0),
        }
        if isinstance(error, torch.OutOfMemoryError):
            meta["alloc_shortfall_by_gpu"] = {"0": 2 * GIB}
        return meta

    def _unpacked(self, job: Job) -> Any:
        try:
            return self.unpack(job.request, job.blob)
        except Exception as error:
            raise Unreadable(f"Your request payload could not be read ({type(error).__name__}: {error}).") from error

    def unpack(self, request: RequestModel, blob: bytes) -> Any:
        """A session's code, ready to run on the model that the request names."""
        model = self.models[request.model_key]
        model._remoteable_set_env(request.env)
        SOURCES.clear()  # keyed by the client's file and line: what is there may be of another version
        BLOCKS.clear()
        return RequestModel.deserialize(blob, model._remoteable_persistent_objects(), request.compress)

    def _execute(self, tracer: Any, model: Any) -> dict[str, Any]:
        """The values that the session's code saves."""
        half = model._module.dtype in (torch.float16, torch.bfloat16)
        dtype = model._module.dtype if half else torch.bfloat16
        inc()
        try:
            with torch.autocast("cuda", dtype, enabled=half and torch.cuda.is_available(), cache_enabled=False):
                tracer.execute(tracer.info.code)
            found = tracer.info.frame.f_locals
            return {name: value for name, value in found.items() if id(value) in _saves()}
        finally:
            dec()

    def deployments(self) -> dict[str, Any]:
        """Every model, as the protocol shows it: those that are up by replica, the others by name."""
        shown: dict[str, Any] = {}
        for number, (key, model) in enumerate(list(self.models.items())):
            named, config = json.loads(key.partition(":")[2]), model._module.config
            shown[f"r{number}:ModelActor:{key}"] = {
                "application_state": "RUNNING",
                "deployment_level": "HOT",
                "pinned": False,
                "trusted": True,
                "dtype": str(model._module.dtype).removeprefix("torch."),
                "execution_timeout_seconds": None,
                "model_key": key,
                "replica_id": f"r{number}",
                "repo_id": named["repo_id"],
                "task": named["task"],
                "revision": "main",
                "config": config.to_json_string(),
                "n_params": model._module.num_parameters(),
                "gpus": None,
            }
        for path in self.cold.values():
            shown[Path(path).name] = {"deployment_level": "COLD", "repo_id": path}
        return shown


class Unreadable(Exception):
    """A request that is told in a sentence, without a traceback."""
