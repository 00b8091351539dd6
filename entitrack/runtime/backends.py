"""Where a session runs. A method does not know which one it runs on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Protocol

import nnsight
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.engine.execution import execute
from entitrack.models.devices import device_kind
from entitrack.models.model import Model
from entitrack.runtime.claims import Claims, Pending
from entitrack.runtime.forms import DIRECT, Intervention, anatomy_in, in_form
from entitrack.runtime.promises import check_result
from entitrack.runtime.store import Store, unit_key
from entitrack.runtime.uses import Use, note_use


@dataclass(frozen=True)
class Unit:
    """One intervention on one batch: a session, and a job where there is a server.

    Attributes:
        key: Digest of everything its result depends on.
        model: The model it runs on.
        function: The intervention.
        inputs: Its arguments after the model.
        code: The intervention in the form in which it runs, see `forms`; None: as it is.
        after: How many units of the same step are still to come, as far as is known.
        kept: Where the intervention keeps, in this process, what another one of the same batch can use; servers know
            nothing of it.
    """

    key: str
    model: Model
    function: Intervention
    inputs: dict[str, Any] = field(repr=False)
    code: Intervention | None = None
    after: int = 0
    kept: dict[str, Any] | None = field(default=None, repr=False)


@dataclass
class Cost:
    """What a run has asked of its backend.

    Attributes:
        units: Sessions run.
        reused: Sessions whose results were in the store, or came there from another process meanwhile.
        bytes_up: Size of the tensors sent into sessions.
        bytes_down: Size of the tensors brought back.
        jobs: Jobs submitted to a server.
        collected: Jobs of an earlier run that were found on the server and not submitted again.
        simulated: Jobs that a server would have been sent, and was not: `wire_up` and `wire_down` count their bytes.
        resubmitted: Jobs submitted again: their results had expired there, or the server lost its models under them.
        out_of_memory: Jobs that ran out of memory; smaller batches took their place.
        socket_messages: Messages that such jobs would send through the socket of a sandbox, where they have its form.
        socket_bytes: Bytes of these.
        retries: Requests that were repeated.
        wire_up: Bytes sent to the server: requests with their bodies, compressed.
        wire_down: Bytes received from it.
        queued_s: Seconds that jobs waited on the server, summed over jobs.
        deploying_s: Seconds in which it brought up models for them, which are not in `queued_s`.
        running_s: Seconds that they ran, as the server says, or else as seen by asking.
        transfer_s: Seconds of sending requests and fetching results.
        gpu_bytes: The most bytes that a job took on one GPU besides the weights, as the server says.
        gpu_percent: The most percent that a job took of the memory that one GPU had left for it.
    """

    units: int = 0
    reused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    jobs: int = 0
    collected: int = 0
    simulated: int = 0
    resubmitted: int = 0
    out_of_memory: int = 0
    socket_messages: int = 0
    socket_bytes: int = 0
    retries: int = 0
    wire_up: int = 0
    wire_down: int = 0
    queued_s: float = 0.0
    deploying_s: float = 0.0
    running_s: float = 0.0
    transfer_s: float = 0.0
    gpu_bytes: int = 0
    gpu_percent: float = 0.0

    def add(self, other: Cost) -> None:
        """Count what another one has counted, too."""
        for entry in fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            setattr(self, entry.name, max(mine, theirs) if entry.name in PEAKS else mine + theirs)


PEAKS = ("gpu_bytes", "gpu_percent")
"""What of a cost is the largest of all jobs, not their sum."""


class OutOfMemory(UserError):
    """A batch does not fit into the memory of what it runs on: a smaller one may.

    Attributes:
        fits: The part of it that would fit, as far as is known.
        prompts: How many it has; None where that is not known.
    """

    fits: float = 0.5
    prompts: int | None = None


class Backend(Protocol):
    """Runs interventions on models."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def in_flight(self) -> int:
        """How many units may be started before the first is waited for."""
        ...

    @property
    def form(self) -> str:
        """The form that interventions take, see `forms`."""
        ...

    @property
    def waits_for(self) -> str:
        """What the units that were started are waiting for elsewhere, in a few words; nothing where they are not."""
        ...

    def record(self) -> dict[str, Any]:
        """What is to be recorded of what units ran on, as plain values; nothing where they ran here."""
        ...

    def place(self, model: Model) -> str:
        """What a model runs on; results differ in the last digits between places."""
        ...

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        """Start a unit.

        Args:
            unit: What to run.
            store: Where to note a job before it is waited for.
            cost: Where to add what it cost.
        """
        ...


@dataclass(frozen=True)
class Local:
    """In this process.

    Attributes:
        remote: What nnsight is told: False runs the session as it is; `local` serializes it first, as for a server, and
            runs what comes out.
        form: See `Backend.form`.
    """

    name: str = "local"
    remote: bool | str = False
    in_flight: int = 1
    form: str = DIRECT
    waits_for: str = ""

    def record(self) -> dict[str, Any]:
        """See `Backend.record`."""
        return {}

    def place(self, model: Model) -> str:
        """See `Backend.place`."""
        kinds = sorted({device_kind(device) for device in model.outline.devices})
        where = f"{self.name}/{'+'.join(kinds)}"
        return where if self.form == DIRECT else f"{where}/{self.form}"

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        """See `Backend.start`; the unit runs when its result is asked for."""
        return lambda: self.run(unit.model, unit.code or unit.function, unit.inputs, unit.kept)

    def run(
        self, model: Model, function: Intervention, inputs: dict[str, Any], kept: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The results of `function(envoy, **inputs)` as CPU tensors."""
        kept = None if self.remote or self.form != DIRECT else kept
        return open_session(model.envoy, function, inputs, kept, remote=self.remote)


def open_session(
    envoy: Any, function: Intervention, inputs: dict[str, Any], kept: dict[str, Any] | None = None, **where: Any
) -> Any:
    """The one session that every intervention runs in.

    Args:
        envoy: The nnsight model.
        function: The intervention.
        inputs: Its arguments after the model.
        kept: See `Unit`.
        where: What nnsight's `session` takes: `remote` or `backend`.

    Returns:
        The result; None if the backend only takes the session and does not run it.
    """
    result = None
    with envoy.session(**where):
        result = nnsight.save(execute(envoy, function, inputs, kept))
    return result


def dry_run(form: str = DIRECT) -> Local:
    """Nnsight's simulation of a server: everything is shipped by value, unpacked and run here."""
    from entitrack.runtime.ndif.dry_run import DryRun

    nnsight.register("entitrack")
    return DryRun("dry_run", "local", form=form)


@dataclass
class Runner:
    """A backend that keeps what it has finished.

    Attributes:
        backend: Where sessions run.
        store: Where finished units are kept; None keeps nothing.
        cost: What was asked so far.
        used: Key of every unit that was asked for -> name of its model.
    """

    backend: Backend
    store: Store | None = None
    cost: Cost = field(default_factory=Cost)
    used: dict[str, str] = field(default_factory=dict)
    _claims: Claims | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin without any unit started."""
        self._claims = Claims(self.store, self._count_reuse) if self.store else None

    def run(
        self, model: Model, function: Intervention, inputs: dict[str, Any], settings: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The results of an intervention, from the store or by running it.

        Args:
            model: The model to run it on.
            function: The intervention; it is called with the model's envoy and anatomy before `inputs`.
            inputs: Its other arguments: all that the result depends on.
            settings: More arguments, on which the result does not depend (sizes of chunks).
        """
        return next(self.map(model, function, [inputs], settings))

    def map(
        self,
        model: Model,
        function: Intervention,
        inputs: Iterable[dict[str, Any]],
        settings: dict[str, Any] | None = None,
        total: int = 0,
        kept: Sequence[dict[str, Any] | None] = (),
    ) -> Iterator[dict[str, Any]]:
        """The results of an intervention on many batches, in order; a server works on several at a time.

        Args:
            model: See `run`.
            function: See `run`.
            inputs: The `inputs` of each batch. They are drawn a few ahead of the results, so they may come from the
                results of another `map`.
            settings: See `run`.
            total: How many there are, where `inputs` has no length.
            kept: See `Unit`, one a batch; where it is None the intervention keeps nothing.
        """
        left = len(inputs) if isinstance(inputs, Sequence) else total
        if isinstance(inputs, Sequence) and self.store:
            left -= sum(self.store.has(self._key(model, function, given)) for given in inputs)
        queue: deque[Pending] = deque()
        keys: list[str] = []
        try:
            for number, given in enumerate(inputs):
                keys.append(self._key(model, function, given))
                self.used[keys[-1]] = model.name
                own = kept[number] if kept else None
                unit = Unit(keys[-1], model, function, given, after=max(0, left - 1), kept=own)
                pending = self._claims.find(unit.key) if self._claims else None
                left -= pending is None
                queue.append(pending or self._begin(unit, settings or {}))
                if len(queue) >= self.backend.in_flight:
                    yield queue.popleft()()
            while queue:
                yield queue.popleft()()
        finally:
            if self._claims:
                self._claims.free(keys)

    def note_use(self, run: str, method: str, date: str) -> None:
        """Note in the store, if there is one, what a run used; a store that cannot be written to costs no more."""
        if self.store and self.used:
            with suppress(OSError):
                note_use(self.store.root, Use(run, method, date, self.used))

    def _key(self, model: Model, function: Intervention, inputs: dict[str, Any]) -> str:
        name = f"{function.__module__}.{function.__qualname__}"
        return unit_key(name, model.identity.digest, self.backend.place(model), inputs)

    def _count_reuse(self) -> None:
        self.cost.reused += 1

    def _begin(self, unit: Unit, settings: dict[str, Any]) -> Pending:
        """Start a unit; where there is a store, only if no other process is at work on it."""
        start = partial(self._start, unit, settings)
        return self._claims.begin(unit.key, start) if self._claims else start()

    def _start(self, unit: Unit, settings: dict[str, Any]) -> Pending:
        """Start a unit; its result is kept as soon as it is there."""
        form = self.backend.form
        arguments = {"anatomy": anatomy_in(form, unit.model.anatomy), **unit.inputs, **settings}
        full = replace(unit, inputs=arguments, code=in_form(form, unit.function))
        pending = self.backend.start(full, self.store, self.cost)

        def finish() -> dict[str, Any]:
            """Wait for the result, count what it cost, check it, and keep it."""
            result = pending()
            self.cost.units += 1
            self.cost.bytes_up += tensor_bytes(unit.inputs)
            self.cost.bytes_down += tensor_bytes(result)
            check_result(unit.function, result)
            if self.store:
                self.store.put(unit.key, result)
            return result

        return finish


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a nested value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(tensor_bytes(entry) for entry in entries)
