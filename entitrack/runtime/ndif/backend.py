"""The backend that submits sessions as jobs, and collects them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import httpx
from nnsight.schema.response import Status

from entitrack.core.errors import UserError
from entitrack.core.notices import say, warn
from entitrack.engine.execution import present
from entitrack.models.family import Model
from entitrack.runtime.backends import Cost, OutOfMemory, Pending, Unit
from entitrack.runtime.forms import DIRECT, chosen
from entitrack.runtime.ndif.budget import check_budget
from entitrack.runtime.ndif.failure import Again, failed, is_undeployed, undeployed
from entitrack.runtime.ndif.hosted import Hosted
from entitrack.runtime.ndif.jobs import Job
from entitrack.runtime.ndif.payload import CorruptResult, TooLarge, envelope, key_parts, model_key, pack, unpack
from entitrack.runtime.ndif.preflight import Listing, check_key, check_versions, list_models, not_hosted, one_of
from entitrack.runtime.ndif.saying import one_line
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.stranded import Queues
from entitrack.runtime.ndif.wire import Wire
from entitrack.runtime.promises import WrongResult, check_result
from entitrack.runtime.store import Store

_RESUME = "run the same command again: what is finished is kept"
_MOST_AGAIN = 2
"""How often a unit is submitted again whose job came to nothing through no fault of its own."""
_LOOK_S = 2.0
"""Most seconds between two looks at what a server lists."""


@dataclass
class Ndif:
    """Sessions as jobs on a server: submitted without blocking, noted in the store, then waited for.

    A server takes no cancellation: a job that is no more waited for goes on there.

    Attributes:
        settings: Where, how patiently and how much.
        transport: What carries requests, where that is not the network.
    """

    settings: Settings
    name: str = "ndif"
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    _open: list[tuple[Job, Unit]] = field(default_factory=list, repr=False)
    _hosted: dict[str, Hosted] = field(default_factory=dict, repr=False)
    _by_member: dict[str, Hosted] = field(default_factory=dict, repr=False)
    _environment: dict[str, str] | None = field(default=None, repr=False)
    _asked: Cost = field(default_factory=Cost, repr=False)
    _finished: int = 0
    _queues: Queues = field(init=False, repr=False)
    _gpus: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)
    _missing: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse an address that is none."""
        self.settings.check()
        self._queues = Queues(self.settings.requeue_s)

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

    @property
    def waits_for(self) -> str:
        """See `Backend.waits_for`: states of jobs, and how many are in each."""
        states = [job.state for job, _ in self._open if job.ended is None]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))

    def record(self) -> dict[str, Any]:
        """See `Backend.record`: what the server says of models and libraries, and what jobs took of its GPUs."""
        models = {name: hosted.record() for name, hosted in self._by_member.items()}
        return {"models": models, "gpus": self._gpus, "missing_bytes": self._missing}

    def hosted(self, model: Model) -> Hosted:
        """What the server says it runs under a model's name; asked once, after its key and versions were checked.

        A model that is not up there is brought up: only then the server tells all of it.

        Raises:
            UserError: The server takes no key of ours, runs other versions, or cannot run the model.
        """
        key = model_key(model)
        if self._environment is None:
            _ = self._trusted  # the key first: without it nothing else need be asked
            self._environment = check_versions(self.settings, self._wire, self._asked)
        if key not in self._hosted:
            listing = list_models(self._wire, self._asked, model)
            if not listing.replicas and self.settings.deploy == "auto":
                self._deploy(model)
            if not listing.replicas:
                listing = self._listed(model)
            self._hosted[key] = one_of(self.settings, listing, model, self._environment)
        if model.name not in self._by_member:
            self._by_member[model.name] = self._hosted[key]
            self._tell_precision(model)
        return self._hosted[key]

    def _tell_precision(self, model: Model) -> None:
        """Say so if the server holds the model in another precision than is asked for."""
        there = self._hosted[model_key(model)].precision
        if there and there != model.identity.dtype:
            said = f"{self.settings.address} holds {_named(model)} in {there}, not in {model.identity.dtype}"
            warn(f"model.dtype: {said}; results are those of its weights, and the noise that is told is measured there")

    def _listed(self, model: Model) -> Listing:
        """What the server lists once it lists the model; the list may be as old as `status_age_s`.

        Raises:
            UserError: It does not.
        """
        until = time.monotonic() + self.settings.status_age_s
        if self.settings.status_age_s:
            say(f"{self.settings.address} does not list {_named(model)} yet; it is asked again")
        while True:
            listing = list_models(self._wire, self._asked, model)
            left = until - time.monotonic()
            if listing.replicas:
                return listing
            if left <= 0:
                raise not_hosted(self.settings, listing, model)
            time.sleep(min(left, _LOOK_S))

    def _deploy(self, model: Model) -> None:
        """Have a model brought up, by a job that does nothing, and wait for that.

        Raises:
            UserError: The server cannot, or it takes too long.
        """
        say(f"{self.settings.address} does not run {_named(model)} yet: it is brought up for this run")
        unit = Unit("", model, present, {})
        for again in range(_MOST_AGAIN + 1):
            job = self._post(unit, self._asked)
            try:
                self._await(unit, job, None, self._asked, patient=again == _MOST_AGAIN)
            except Again as stranded:
                error: Exception = stranded
                description = str(stranded)
            else:
                assert job.last
                if job.last.status != Status.ERROR:
                    return
                description = job.last.description
                error = failed(self.settings.address, job.id, description, job.usage)
            if is_undeployed(description) or again == _MOST_AGAIN:
                raise undeployed(self.settings.address, model.name, _named(model), description)
            if not isinstance(error, Again):
                raise error
            self._asked.resubmitted += 1
            time.sleep(self.settings.backoff_s)

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        """Submit a unit, or find the job that an earlier run submitted for it."""
        self._add_asked(cost)
        job = self._adopt(unit, store, cost) or self._submit(unit, store, cost)
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
        self._open.append((job, unit))
        return job

    def _submit(self, unit: Unit, store: Store | None, cost: Cost) -> Job:
        """Check what can be checked, then submit; the id is noted before anything else is done."""
        self.hosted(unit.model)
        self._add_asked(cost)
        job = self._post(unit, cost)
        if store:
            store.note_job(unit.key, job.record(self.settings.address))
        return job

    def _post(self, unit: Unit, cost: Cost) -> Job:
        """Hand a unit in, if the budgets allow."""
        blob = pack(unit)
        check_budget(self.settings, cost, self._finished, len(blob), unit.after)
        self._make_room(cost)
        begun = time.monotonic()
        job = Job(self._wire.submit(envelope(unit.model, self.form), blob, cost), time.time())
        cost.transfer_s += time.monotonic() - begun
        self._open.append((job, unit))
        return job

    def _add_asked(self, cost: Cost) -> None:
        """Add what asking what the server runs has cost; it is asked before there is a unit to count it with."""
        cost.add(self._asked)
        self._asked = Cost()

    def _make_room(self, cost: Cost) -> None:
        """Wait until fewer jobs than allowed are on the server."""
        while sum(job.ended is None and not self._overdue(job) for job, _ in self._open) >= self.in_flight:
            self._look(cost)

    def _look(self, cost: Cost) -> None:
        """Wait a moment, then ask for the state of every job that has not ended."""
        time.sleep(self.settings.poll_s)
        for job, unit in self._open:
            if job.ended is None:
                job.hear(self._wire.state(job.id, cost))
                self._queues.serve(model_key(unit.model), job)

    def _overdue(self, job: Job) -> bool:
        return job.waited_s > self.settings.timeout_s or job.deploying_s > self.settings.deploy_timeout_s

    def _collect(self, unit: Unit, job: Job, store: Store | None, cost: Cost) -> dict[str, Any]:
        """Wait for a job and fetch its result; a job that came to nothing is followed by another one."""
        again = 0
        while True:
            try:
                self._await(unit, job, store, cost, patient=again == _MOST_AGAIN)
                return self._result(unit, job, store, cost)
            except Again as error:
                _forget(unit, store)
                if again == _MOST_AGAIN:
                    problem = f"job {job.id} came to nothing, as {again} before it: {error}"
                    raise UserError("backend.host", f"{self.settings.address}: {problem}", fix=_RESUME) from None
            again += 1
            cost.resubmitted += 1
            time.sleep(self.settings.backoff_s)
            job = self._submit(unit, store, cost)

    def _await(self, unit: Unit, job: Job, store: Store | None, cost: Cost, patient: bool = False) -> None:
        """Wait for the end of a job, and count what it took.

        Raises:
            Again: It seems that it will not come; not of the patient.
            UserError: It takes too long, or the server does not know it any more.
        """
        while job.ended is None:
            self._look(cost)
            if job.ended is None and (job.lost or self._overdue(job)):
                self._give_up(unit, job, store)
            reason = self._queues.stranded(model_key(unit.model), job, self._wire.away)
            if reason and not patient:
                self._close(job)
                say(f"job {job.id} is submitted again: {reason}")
                raise Again(reason)
        self._close(job)
        self._finished += 1
        cost.queued_s += job.queued_s
        cost.deploying_s += job.deploying_s
        cost.running_s += job.running_s
        usage = job.usage
        for gpu in usage.memory:
            known = self._gpus.setdefault(gpu, {"bytes": 0.0, "percent": 0.0})
            known["bytes"] = max(known["bytes"], usage.memory[gpu])
            known["percent"] = max(known["percent"], usage.shares.get(gpu, 0.0))
            cost.gpu_bytes = max(cost.gpu_bytes, int(usage.memory[gpu]))
            cost.gpu_percent = max(cost.gpu_percent, usage.shares.get(gpu, 0.0))
        self._missing |= usage.shortfall

    def _result(self, unit: Unit, job: Job, store: Store | None, cost: Cost) -> dict[str, Any]:
        """The result of a job that has ended.

        Raises:
            Again: There is none, through no fault of the job.
            UserError: There is none.
        """
        if job.last is None or job.last.status != Status.ERROR:
            return self._fetch(unit, job, store, cost)
        _forget(unit, store)
        description = job.last.description
        if is_undeployed(description):
            raise undeployed(self.settings.address, unit.model.name, _named(unit.model), description)
        error = failed(self.settings.address, job.id, description, job.usage)
        if isinstance(error, OutOfMemory):
            cost.out_of_memory += 1
            error.prompts = _prompts(unit)
            self._let_go(store)
        raise error

    def _let_go(self, store: Store | None) -> None:
        """Wait no more for any job: smaller ones are going to take their place."""
        for _, unit in self._open:
            _forget(unit, store)
        self._open = []

    def _close(self, job: Job) -> None:
        self._open = [entry for entry in self._open if entry[0] is not job]

    def _give_up(self, unit: Unit, job: Job, store: Store | None) -> None:
        """Wait no more for a job that takes too long, or that the server has lost.

        One that takes too long is collected by another run. If that waits in vain as well, the next submits it anew.
        """
        self._close(job)
        if job.lost or job.adopted or not store:
            _forget(unit, store)
        if job.lost:
            problem = f"{self.settings.address} no longer knows job {job.id}; it may have restarted"
            raise UserError("backend.host", problem, fix=_RESUME)
        setting, seconds = ("timeout_s", self.settings.timeout_s)
        if job.deploying_s > self.settings.deploy_timeout_s:
            setting, seconds = ("deploy_timeout_s", self.settings.deploy_timeout_s)
        problem = f"job {job.id} did not finish in {seconds:g} s ({job.state}); it goes on on the server"
        raise UserError(f"backend.{setting}", problem, fix=f"raise it, or {_RESUME}")

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


def _prompts(unit: Unit) -> int | None:
    """How many prompts a unit is about; None if that is not among its inputs."""
    prompts = unit.inputs.get("prompts")
    return len(prompts["tokens"]) if isinstance(prompts, dict) and "tokens" in prompts else None


def _named(model: Model) -> str:
    """What the server is to call a model."""
    return key_parts(model_key(model))[1]
