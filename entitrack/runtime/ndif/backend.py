"""The backend that submits sessions as jobs, and collects them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import httpx
from nnsight.schema.response import Status

from entitrack.core.errors import UserError
from entitrack.models.family import Model
from entitrack.runtime.backends import Cost, Pending, Unit
from entitrack.runtime.forms import DIRECT, chosen
from entitrack.runtime.ndif.budget import check_budget
from entitrack.runtime.ndif.failure import JobFailed
from entitrack.runtime.ndif.hosted import Hosted
from entitrack.runtime.ndif.jobs import Job
from entitrack.runtime.ndif.payload import CorruptResult, TooLarge, envelope, model_key, pack, unpack
from entitrack.runtime.ndif.preflight import check_hosted, check_key, check_versions
from entitrack.runtime.ndif.saying import one_line
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.wire import Wire
from entitrack.runtime.promises import WrongResult, check_result
from entitrack.runtime.store import Store

_RESUME = "run the same command again: what is finished is kept"


@dataclass
class Ndif:
    """Sessions as jobs on a server: submitted without blocking, noted in the store, then waited for.

    Attributes:
        settings: Where, how patiently and how much.
        transport: What carries requests, where that is not the network.
    """

    settings: Settings
    name: str = "ndif"
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    _open: list[Job] = field(default_factory=list, repr=False)
    _hosted: dict[str, Hosted] = field(default_factory=dict, repr=False)
    _environment: dict[str, str] | None = field(default=None, repr=False)
    _asked: Cost = field(default_factory=Cost, repr=False)
    _finished: int = 0

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        self.settings.check()

    @property
    def in_flight(self) -> int:
        """Most jobs that are started before the first is waited for."""
        return self.settings.in_flight

    @property
    def form(self) -> str:
        """See `Backend.form`; the server is asked whether it trusts the key."""
        return chosen(self.settings.form, self.settings.form == "sandbox" or self._trusted)

    @cached_property
    def _trusted(self) -> bool:
        return check_key(self.settings, self._wire, self._asked)

    @cached_property
    def _wire(self) -> Wire:
        return Wire(self.settings, self.transport)

    def place(self, model: Model) -> str:
        """See `Backend.place`: the server, and a digest of what it says it runs under the model's name.

        Raises:
            UserError: The server cannot be asked: what was kept earlier might then be of another model.
        """
        where = f"ndif/{self.settings.address}/{self.hosted(model).digest}"
        return where if self.form == DIRECT else f"{where}/{self.form}"

    def hosted(self, model: Model) -> Hosted:
        """What the server says it runs under a model's name; asked once, after its key and versions were checked.

        Raises:
            UserError: The server takes no key of ours, runs other versions, or does not host the model.
        """
        key = model_key(model)
        if self._environment is None:
            _ = self._trusted  # the key first: without it nothing else need be asked
            self._environment = check_versions(self.settings, self._wire, self._asked)
        if key not in self._hosted:
            self._hosted[key] = check_hosted(self.settings, self._wire, self._asked, model, self._environment)
        return self._hosted[key]

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        """Submit a unit, or find the job that an earlier run submitted for it."""
        self._add_asked(cost)
        job = self._adopt(unit, store, cost) or self._submit(unit, store, cost)
        self._open.append(job)
        return partial(self._collect, unit, job, store, cost)

    def _adopt(self, unit: Unit, store: Store | None, cost: Cost) -> Job | None:
        """The job of an earlier run for the same unit, unless the server has forgotten it."""
        job = Job.noted(store.job(unit.key) if store else None, self.settings.address)
        if job is None:
            return None
        job.hear(self._wire.state(job.id, cost))
        if job.last is None and time.time() - job.submitted > self.settings.timeout_s:
            return None
        cost.collected += 1
        return job

    def _submit(self, unit: Unit, store: Store | None, cost: Cost) -> Job:
        """Check what can be checked, then submit; the id is noted before anything else is done."""
        self.hosted(unit.model)
        self._add_asked(cost)
        blob = pack(unit)
        check_budget(self.settings, cost, self._finished, len(blob), unit.after)
        self._make_room(cost)
        begun = time.monotonic()
        job = Job(self._wire.submit(envelope(unit.model, self.form), blob, cost), time.time())
        cost.transfer_s += time.monotonic() - begun
        if store:
            store.note_job(unit.key, job.record(self.settings.address))
        return job

    def _add_asked(self, cost: Cost) -> None:
        """Add what asking what the server runs has cost; it is asked before there is a unit to count it with."""
        cost.wire_up += self._asked.wire_up
        cost.wire_down += self._asked.wire_down
        cost.retries += self._asked.retries
        self._asked = Cost()

    def _make_room(self, cost: Cost) -> None:
        """Wait until fewer jobs than allowed are on the server."""
        while sum(job.ended is None and not self._overdue(job) for job in self._open) >= self.settings.in_flight:
            self._look(cost)

    def _look(self, cost: Cost) -> None:
        """Wait a moment, then ask for the state of every job that has not ended."""
        time.sleep(self.settings.poll_s)
        for job in self._open:
            if job.ended is None:
                job.hear(self._wire.state(job.id, cost))

    def _overdue(self, job: Job) -> bool:
        return time.monotonic() - job.seen > self.settings.timeout_s

    def _collect(self, unit: Unit, job: Job, store: Store | None, cost: Cost) -> dict[str, Any]:
        """Wait for a job and fetch its result."""
        while job.ended is None:
            self._look(cost)
            if job.ended is None and (job.lost or self._overdue(job)):
                self._give_up(unit, job, store, cost)
        self._open.remove(job)
        self._finished += 1
        cost.queued_s += job.queued_s
        cost.running_s += job.running_s
        if job.last and job.last.status == Status.ERROR:
            _forget(unit, store)
            raise JobFailed(self.settings.address, job.id, job.last.description)
        return self._fetch(unit, job, store, cost)

    def _give_up(self, unit: Unit, job: Job, store: Store | None, cost: Cost) -> None:
        """Cancel a job that takes too long, or let go of one that the server has lost."""
        self._open.remove(job)
        _forget(unit, store)
        if job.lost:
            problem = f"{self.settings.address} no longer knows job {job.id}; it may have restarted"
            raise UserError("backend.host", problem, fix=_RESUME)
        self._wire.cancel(job.id, cost)
        state = job.last.status.value if job.last else "nothing known of it"
        problem = f"job {job.id} did not finish in {self.settings.timeout_s:g} s ({state}) and was cancelled"
        raise UserError("backend.timeout_s", problem, fix=f"raise it, or {_RESUME}")

    def _fetch(self, unit: Unit, job: Job, store: Store | None, cost: Cost) -> dict[str, Any]:
        """The result of a job that has completed; one that arrives damaged, or as something else, is fetched again.

        If it stays so, another run fetches it once more, and the run after that submits the unit anew.
        """
        begun = time.monotonic()
        trouble = "the server gave none"
        for attempt in range(self.settings.retries + 1):
            if attempt:
                cost.retries += 1
                time.sleep(self.settings.backoff_s)
                job.last = self._wire.state(job.id, cost) or job.last
            try:
                content = self._wire.result(job.last.data if job.last else None, cost)
                result = unpack(content, self.settings.max_result_bytes)
                check_result(unit.function, result)
            except TooLarge as error:
                problem = f"the result of job {job.id} on {self.settings.address} is too large: {error}"
                raise UserError("backend.max_result_bytes", problem, fix=f"raise it, or {_RESUME}") from error
            except (CorruptResult, WrongResult) as error:
                trouble = one_line(error)
                continue
            cost.transfer_s += time.monotonic() - begun
            return result
        if job.damaged:
            _forget(unit, store)
        elif store:
            job.damaged = True
            store.note_job(unit.key, job.record(self.settings.address))
        problem = f"the result of job {job.id} is damaged, {self.settings.retries + 1} times over ({trouble})"
        raise UserError("backend.host", f"{self.settings.address}: {problem}", fix=_RESUME)


def _forget(unit: Unit, store: Store | None) -> None:
    """Another run shall submit the unit anew."""
    if store:
        store.forget_job(unit.key)
