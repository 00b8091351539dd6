"""NDIF's own server as a test sees it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import torch
from nnsight.schema.response import Status

from entitrack.engine.patching import answer
from entitrack.models.family import ZOO, Model
from entitrack.runtime.backends import Cost, Unit
from entitrack.runtime.ndif.backend import Ndif
from entitrack.runtime.ndif.payload import envelope, pack
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.wire import Wire
from tests.remote.real.installing import NotHere, namespaces

ADDRESS = "http://127.0.0.1:8001"
HOSTED = ("llama", "vicuna", "float")
"""Members of the embedded family that are deployed; the other one is an adapter of the first."""

_HERE = Path(__file__).parent / "server"
_START_S = 600.0
_RUNNER_S = 60.0
_NEW_NETWORK = 0x40000000

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "NDIF_REDIS_URL": "redis://127.0.0.1:6379",
    "NDIF_OBJECT_STORE_URL": "http://127.0.0.1:9000",
    "NDIF_RAY_ADDRESS": "ray://127.0.0.1:10001",
    "NDIF_API_PORT": "8001",
    "NDIF_MIN_NNSIGHT_VERSION": "0.5.0",
    "NDIF_DEFAULT_MODEL_ACTOR_CLASS": "ndif_cpu.CpuSandboxModelActor",
    "NDIF_CONTROLLER_IMPORT_PATH": "ndif_cpu.CpuController",
    "NDIF_DEFAULT_DTYPE": "float32",
    "NDIF_DEFAULT_PADDING_BIAS": "0",
    "NDIF_SANDBOX_POOL_SIZE": "1",
    "NDIF_AUTOSCALING_MAX_REPLICAS": "1",
    "NDIF_CONTROLLER_SYNC_INTERVAL_S": "5",
    "NDIF_STATUS_TTL_S": "1",
    "NDIF_LOKI_URL": "",
    "NDIF_INFLUX_URL": "",
    "NDIF_POSTGRES_URL": "",
}
"""What the server is told; it has nothing else of the environment but what programs need to start."""


class Real:
    """The server, running.

    Args:
        installation: Its virtual environment.

    Raises:
        NotHere: It does not start.
    """

    def __init__(self, installation: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ndif", dir="/tmp"))  # short: it becomes part of names of sockets
        environment = {
            **ENVIRONMENT,
            "HOME": str(self.folder),
            "PATH": f"{installation / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(_HERE),
            "NDIF_RUN": str(self.folder),
        }
        self.client = httpx.Client(timeout=10)
        self._python = str(installation / "bin" / "python")
        self._process = subprocess.Popen(
            [*namespaces(), "bash", str(_HERE / "start.sh")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self._expect("started", _START_S)
            with self.inside():
                self.wait_until_connected(_START_S)
        except BaseException:
            logs = self.logs()
            self.stop()
            raise NotHere(f"NDIF's server does not start:\n{logs}") from None

    def stop(self) -> None:
        """End it with all that it has started: the first process of its namespaces takes the others with it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self) -> str:
        """The ends of what its parts have said."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in files)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Within, this thread, and the processes it starts, are on the server's network, which has only itself."""
        library = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self._process.pid}/ns/net") as there:
            _enter(library, there.fileno())
            try:
                yield
            finally:
                _enter(library, own.fileno())

    def order(self, verb: str, part: str) -> None:
        """`start` or `stop` (at once, by force) `redis` or `api`."""
        assert self._process.stdin
        self._process.stdin.write(f"{verb} {part}\n")
        self._process.stdin.flush()
        self._expect(f"{verb} {part}", 30)

    def wait_until_connected(self, seconds: float = 300.0) -> None:
        """Wait until it takes jobs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                if self.client.get(f"{ADDRESS}/connected").is_success:
                    return
            time.sleep(0.5)
        raise TimeoutError(f"the server takes no jobs:\n{self.logs()}")

    def delete(self, objects: Sequence[str]) -> None:
        """Delete results from its store; only the server may sign that."""
        program = "from ndif.common.providers.objectstore import ObjectStoreProvider as store; import sys\n"
        program += "for name in sys.argv[1:]: store.client.delete_object(Bucket=store.bucket, Key=name)"
        subprocess.run([self._python, "-c", program, *objects], env=ENVIRONMENT, check=True)

    def deploy(self, models: Sequence[Model], seconds: float = 300.0) -> None:
        """Have it load models, as the first job that names one does."""
        wire, cost, until = Wire(self.settings()), Cost(), time.monotonic() + seconds
        tokens = torch.zeros(1, 2, dtype=torch.long)
        prompts = {"tokens": tokens, "mask": tokens + 1, "last": tokens[:, 0] + 1, "answers": tokens[:, 0]}
        jobs = []
        for model in models:
            unit = Unit("", model, answer, {"anatomy": model.anatomy, "prompts": prompts})
            jobs.append(wire.submit(envelope(model), pack(unit), cost))
        while jobs:
            state = wire.state(jobs[0], cost)
            if state and state.status == Status.ERROR:
                raise NotHere(f"NDIF's server does not deploy a model: {state.description}")
            if state and state.status == Status.COMPLETED:
                jobs.pop(0)
            elif time.monotonic() > until:
                raise NotHere(f"NDIF's server has not deployed a model within {seconds:g} s")
            time.sleep(0.1)

    def processes(self, *words: str) -> list[int]:
        """Its processes that have all of these words in their command line."""
        first = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]
        family = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                own = os.readlink(entry / "ns" / "pid") == family
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if own and all(word in line for word in words):
                found.append(int(entry.name))
        return found

    def model_process(self, name: str) -> int:
        """The process that has a member of the embedded family: that which keeps a sandbox for it."""
        runner = self.runners(name)[0]
        return int(Path(f"/proc/{runner}/status").read_text().partition("PPid:")[2].split()[0])

    def runners(self, name: str) -> list[int]:
        """The sandboxes that wait for a job on a member of the embedded family, or run one."""
        until = time.monotonic() + _RUNNER_S
        while time.monotonic() < until:
            if runners := self.processes("ndif.services.ray.sandbox.runner", str(ZOO / "tiny" / name)):
                return runners
            time.sleep(0.05)
        raise TimeoutError(f"there is no sandbox for {name}")

    def counts(self) -> list[dict[str, Any]]:
        """What each job that was executed has had cross the sandbox's socket, in the order in which they ended."""
        file = self.folder / "counts.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def settings(self, **others: Any) -> Settings:
        """Settings of a client that is in a hurry."""
        return Settings(**{"host": ADDRESS, "poll_s": 0.05, "backoff_s": 0.1, "retries": 6, **others})

    def backend(self, **others: Any) -> Ndif:
        return Ndif(self.settings(**others))

    def _expect(self, line: str, seconds: float) -> None:
        """Wait until the server's first process says a line."""
        said: list[str] = []
        stdout = self._process.stdout
        assert stdout
        listener = threading.Thread(target=lambda: said.append(stdout.readline().strip()), daemon=True)
        listener.start()
        listener.join(seconds)
        if said != [line]:
            raise TimeoutError(f"no {line!r} within {seconds:g} s, but {said}")


def _enter(library: Any, network: int) -> None:
    if library.setns(network, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "this process may not enter the server's network")
