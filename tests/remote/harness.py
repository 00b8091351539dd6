"""The loopback server as a test sees it, and experiments on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
import transformers
from nnsight.schema.request import RequestModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from entitrack.models.family import ZOO, Checkpoint, Family, Model
from entitrack.runtime.backends import Runner
from entitrack.runtime.ndif.backend import Ndif
from entitrack.runtime.ndif.settings import Settings

LOOPBACK = Path(__file__).parent / "loopback"
_START_S = 120.0
STATUS_AGE_S = 0.2
"""Seconds that the server's list of models may be old; NDIF's is 60."""
KEY = "11111111-2222-3333-4444-555555555555"
"""A key as NDIF gives them."""


class Loopback:
    """A server process of our own.

    Args:
        folder: Where it may write.
        models: Folders of the models that it hosts.
        cold: Folders of models that the first request brings up.
    """

    def __init__(self, folder: Path, models: Sequence[Path], cold: Sequence[Path] = ()) -> None:
        port_file = folder / "port"
        own = str(Path(str(transformers.__file__)).parents[1])  # the client's, which may come before what is installed
        places = dict.fromkeys([own, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        command = [sys.executable, "-I", "-S", str(LOOPBACK), "--port-file", str(port_file)]
        for place in places:
            command += ["--site", place]
        for model in models:
            command += ["--model", str(model)]
        for model in cold:
            command += ["--cold", str(model)]
        command += ["--status-age", str(STATUS_AGE_S)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=self._log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + _START_S
        while not port_file.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.05)
        self.hosted = [str(model) for model in models]
        self.cold = list(cold)
        self.address = f"http://127.0.0.1:{port_file.read_text()}"
        self._client = httpx.Client(base_url=self.address, timeout=30)

    def stop(self) -> None:
        self._client.close()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def order(self, fault: str, times: int = 1, seconds: float = 0.0) -> None:
        """Have it make a mistake."""
        asked: dict[str, str | float] = {"name": fault, "times": times, "seconds": seconds}
        self._client.post("/control/fault", params=asked).raise_for_status()

    def need_key(self, key: str) -> None:
        """Have it want a key; empty: none."""
        self.set(key=key)

    def set(self, **values: str | float) -> None:
        """Change what it wants or does from now on: `key`, its `tags`, `status_age`."""
        self._client.post("/control/set", params=values).raise_for_status()

    def evict(self, model: Path) -> None:
        """Have it take a model down."""
        self._client.post("/control/evict", params={"path": str(model)}).raise_for_status()

    def counts(self) -> dict[str, Any]:
        """What it has counted: jobs, executions."""
        return self._client.get("/control/counts").json()

    def unpack(self, blob: bytes, request: RequestModel) -> None:
        """Have it unpack a payload without executing it."""
        answer = self._client.post("/control/unpack", data={"data": request.metadata()}, files={"blob": blob})
        assert answer.is_success, answer.json()["detail"]

    def settings(self, **others: Any) -> Settings:
        """Settings of a client that is in a hurry."""
        return Settings(
            **{"host": self.address, "poll_s": 0.02, "backoff_s": 0.01, "retries": 4, "status_age_s": 0.5, **others}
        )

    def backend(self, **others: Any) -> Ndif:
        return Ndif(self.settings(**others))


def hosted_family(golden: Path, weights: bool) -> Family:
    """The golden family, with or without weights on this side."""
    members = {"base": Checkpoint(str(golden / "base")), "donor": Checkpoint(str(golden / "donor"))}
    return Family("golden", "base", members, device="cpu", dispatch=weights)


ZOO_HOSTED = tuple(ZOO / "tiny" / name for name in ("llama", "vicuna", "float"))


def zoo(weights: bool) -> Family:
    """The embedded family, with or without weights on this side."""
    members = {name: Checkpoint(f"zoo://tiny/{name}") for name in ("llama", "vicuna")}
    members["goat"] = Checkpoint("zoo://tiny/llama", "zoo://tiny/goat")
    members["float"] = Checkpoint("zoo://tiny/float")
    return Family("tiny", "llama", members, device="cpu", dispatch=weights)


def half_precision_copy(model: Path, folder: Path) -> Path:
    """A copy of a model with weights in bfloat16."""
    folder.mkdir()
    for file in model.glob("*.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    weights = {name: values.bfloat16() for name, values in load_file(model / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    return folder


@dataclass
class RecordingRunner(Runner):
    """A runner that remembers what every session gave, by model and intervention."""

    results: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def map(
        self,
        model: Model,
        function: Any,
        inputs: Iterable[dict[str, Any]],
        settings: dict[str, Any] | None = None,
        total: int = 0,
        kept: Sequence[dict[str, Any] | None] = (),
    ) -> Iterator[dict[str, Any]]:
        for result in super().map(model, function, inputs, settings, total, kept):
            self.results[f"{model.name}.{function.__name__}"].append(result)
            yield result


def largest_difference(one: Any, other: Any) -> float:
    """The largest difference of two results; infinite where they have another shape, type or whole number."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return float("inf")
        if not one.is_floating_point():
            return 0.0 if torch.equal(one, other) else float("inf")
        return float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((largest_difference(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and len(one) == len(other):
        return max((largest_difference(left, right) for left, right in zip(one, other, strict=True)), default=0.0)
    return 0.0 if one == other else float("inf")
