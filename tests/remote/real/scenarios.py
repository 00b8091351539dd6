"""What goes wrong on NDIF while jobs are there, and what a user then sees: for the tests and for the table."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer
from entitrack.methods.experiment import prompt_inputs
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import encode
from tests.remote.harness import largest_difference
from tests.remote.real.measuring import UNTRUSTED
from tests.remote.real.served import ADDRESS, Real
from tests.remote.scenarios import SERVED, UNITS, Outcome

MODEL = "llama"
TOLERANCE = 1e-6
_PATIENCE_S = 300.0
_ATTEMPTS = 4


def few_prompts(family: Family) -> list[dict[str, Any]]:
    """The inputs of three small units."""
    prompts = Boxes(count=2 * UNITS).prompts()
    batches = (prompts[2 * number : 2 * number + 2] for number in range(UNITS))
    return [{"prompts": prompt_inputs(encode(batch, family.tokenizer, "right"))} for batch in batches]


class Bench:
    """A server, a client without weights, and three small units with their right results."""

    def __init__(self, real: Real, bare: Family, full: Family, folder: Path) -> None:
        self.real, self.folder = real, folder
        self.model = bare.load(MODEL)
        self.inputs = few_prompts(full)
        self.right = list(Runner(Local()).map(full.load(MODEL), answer, self.inputs))

    def work(
        self, store: str, transport: httpx.BaseTransport | None = None, **settings: Any
    ) -> tuple[Runner, Callable[[], list[dict[str, Tensor]]]]:
        """A runner with a store of its own, and what has it do the units, which are of a key that is not trusted."""
        backend = self.real.backend(form=UNTRUSTED, **settings)
        backend.transport = transport
        runner = Runner(backend, Store(self.folder / store))
        return runner, lambda: list(runner.map(self.model, answer, self.inputs))

    def pages(self, store: str) -> list[dict[str, Any]]:
        """What the server says of the jobs that are noted in a store."""
        names = (file.stem for file in (self.folder / store / "jobs").glob("*.json"))
        ids = [note["id"] for note in map(Store(self.folder / store).job, names) if note]
        pages = [self.real.client.get(f"{ADDRESS}/response/{name}") for name in ids]
        return [page.json() if page.is_success else {"status": ""} for page in pages]

    def wait_for(self, store: str, reached: Callable[[list[str]], bool]) -> None:
        """Wait until all jobs are there and their states are as wanted."""
        until = time.monotonic() + _PATIENCE_S
        while True:
            states = [page["status"] for page in self.pages(store)]
            if len(states) == UNITS and reached(states):
                return
            if time.monotonic() > until:
                raise TimeoutError(f"the jobs are {states}")
            time.sleep(0.2)

    def play(self, fault: Fault) -> Outcome:
        """Have a client do the units, make something go wrong, and do them again if that stopped it."""
        store, before = fault.name.replace(" ", "_"), len(self.real.counts())
        runner, work = self.work(store, **fault.settings)
        results: list[dict[str, Tensor]] = []
        again: list[str] = []
        if fault.kills:
            saw = self._killed(store, work, fault)
        elif fault.transport is not None:
            runner, work = self.work(store, fault.transport(), **fault.settings)
            try:
                results, saw = work(), SERVED
            except UserError as error:
                saw = str(error).splitlines()[0]
        else:
            with ThreadPoolExecutor(1) as pool, fault.holds(self):
                client = pool.submit(work)
                self.wait_for(store, fault.reached)
                fault.happens(self, store)
            try:
                results, saw = client.result(), SERVED
            except UserError as error:
                saw = str(error).splitlines()[0]
        while not results and len(again) < _ATTEMPTS:
            runner, work = self.work(store)
            try:
                results = work()
            except UserError as error:
                again.append(str(error).splitlines()[0])
                continue
            cost = runner.cost
            again.append(f"{cost.jobs} submitted, {cost.collected} collected, {cost.reused} from the store")
        lost = UNITS - sum(
            largest_difference(got, right) <= TOLERANCE for got, right in zip(results, self.right, strict=False)
        )
        twice = len(self.real.counts()) - before - UNITS - fault.necessary
        return Outcome(fault.name, saw, "; then: ".join(again), lost, twice, runner.cost.retries)

    def _killed(self, store: str, work: Callable[[], Any], fault: Fault) -> str:
        """Kill a client, in a process of its own, when its jobs are where they should be."""
        with fault.holds(self):
            client = os.fork()
            if not client:
                work()
                os._exit(1)
            try:
                self.wait_for(store, fault.reached)
            finally:
                os.kill(client, signal.SIGKILL)
                os.waitpid(client, 0)
            fault.happens(self, store)
        return "killed"


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        name: What it is called in the table.
        reached: The states that the jobs have when it happens.
        happens: What happens.
        holds: Keeps the jobs in these states until then.
        kills: The client is killed at that moment.
        transport: What carries requests in the first run, where that is what goes wrong.
        settings: Of the client, in the first run.
        necessary: Units that have to run again.
    """

    name: str
    reached: Callable[[list[str]], bool]
    happens: Callable[[Bench, str], None] = lambda bench, store: None
    holds: Callable[[Bench], AbstractContextManager[Any]] = lambda bench: nullcontext()
    kills: bool = False
    transport: Callable[[], httpx.BaseTransport] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    necessary: int = 0


def one_runs(states: list[str]) -> bool:
    """Whether a job runs and the others wait."""
    return "RUNNING" in states


def all_wait(states: list[str]) -> bool:
    """Whether no job has begun."""
    return not {"RUNNING", "COMPLETED"} & set(states)


def all_done(states: list[str]) -> bool:
    """Whether all jobs have finished."""
    return set(states) == {"COMPLETED"}


@contextmanager
def standing(bench: Bench, processes: Callable[[Bench], list[int]]) -> Iterator[None]:
    """Within, some of the server's processes stand still."""
    stopped = processes(bench)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def no_sandbox(bench: Bench) -> AbstractContextManager[None]:
    """Within, a job that runs does not end."""
    return standing(bench, lambda bench: bench.real.runners(MODEL))


def no_model(bench: Bench) -> AbstractContextManager[None]:
    """Within, no job begins."""
    return standing(bench, lambda bench: [bench.real.model_process(MODEL)])


def restarted(*parts: str) -> Callable[[Bench, str], None]:
    """Parts of the server are killed and started again, one after the other."""

    def happen(bench: Bench, store: str) -> None:
        for part in parts:
            bench.real.order("stop", part)
            bench.real.order("start", part)
        bench.real.wait_until_connected()

    return happen


def results_deleted(bench: Bench, store: str) -> None:
    """The results of the jobs are deleted, as a server does when they are old."""
    bench.real.delete([page["data"].partition("?")[0].rpartition("/")[2] for page in bench.pages(store)])


def model_killed(bench: Bench, store: str) -> None:
    """The process that has the model is killed; the server starts another one."""
    os.kill(bench.real.model_process(MODEL), signal.SIGKILL)


class OldClient(httpx.HTTPTransport):
    """Says of every request that it comes from an nnsight of long ago."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["nnsight-version"] = "0.1.0"
        return super().handle_request(request)


PATIENT: dict[str, Any] = {"backoff_s": 1.0, "requeue_s": 5.0}
STARING: dict[str, Any] = {"poll_s": 3600.0}
"""A client that does not look again within a test."""

TESTED = (
    Fault("client killed while its jobs wait", all_wait, holds=no_model, kills=True),
    Fault("client killed while a job runs", one_runs, holds=no_sandbox, kills=True),
    Fault("client killed when all have finished", all_done, kills=True, settings=STARING),
    Fault("request refused", all_wait, transport=OldClient),
)
"""What tests have happen: each takes three jobs."""

FAULTS = (
    *TESTED,
    Fault("client killed, results deleted", all_done, results_deleted, kills=True, settings=STARING, necessary=UNITS),
    Fault("model's process killed while a job runs", one_runs, model_killed, no_sandbox, settings=PATIENT),
    Fault("API killed while a job runs", one_runs, restarted("api"), no_sandbox, settings=PATIENT),
    # Redis forgets that the queue is connected, which says so once, when it starts: until then no job is taken.
    Fault("Redis, then API killed while a job runs", one_runs, restarted("redis", "api"), no_sandbox, settings=PATIENT),
)
