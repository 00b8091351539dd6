"""Where a session runs. A method does not know which one it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import nnsight
from torch import Tensor

from entitrack.interventions.execution import execute
from entitrack.models.family import Model
from entitrack.store import Store, unit_key

Intervention = Callable[..., dict[str, Any]]
"""A function of `entitrack.interventions`: (model, anatomy, ...) -> results."""


class Backend(Protocol):
    """Runs an intervention on a model."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def run(self, model: Model, function: Intervention, inputs: dict[str, Any]) -> dict[str, Any]:
        """The results of `function(envoy, **inputs)` as CPU tensors."""
        ...


@dataclass(frozen=True)
class Local:
    """In this process.

    Attributes:
        remote: What nnsight is told: False runs the session as it is; `local` serializes it first, as for a server, and
            runs what comes out.
    """

    name: str = "local"
    remote: bool | str = False

    def run(self, model: Model, function: Intervention, inputs: dict[str, Any]) -> dict[str, Any]:
        """See `Backend.run`."""
        envoy = model.envoy
        with envoy.session(remote=self.remote):
            result = nnsight.save(execute(envoy, function, inputs))
        return result


def dry_run() -> Local:
    """Nnsight's simulation of a server: everything is shipped by value, unpacked and run here."""
    nnsight.register("entitrack")
    return Local("dry_run", "local")


BACKENDS: dict[str, Callable[[], Backend]] = {"local": Local, "dry_run": dry_run}


@dataclass
class Cost:
    """What a run has asked of its backend.

    Attributes:
        units: Sessions run.
        reused: Sessions whose results were in the store.
        bytes_up: Size of the tensors sent into sessions.
        bytes_down: Size of the tensors brought back.
    """

    units: int = 0
    reused: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass
class Runner:
    """A backend that keeps what it has finished.

    Attributes:
        backend: Where sessions run.
        store: Where finished units are kept; None keeps nothing.
        cost: What was asked so far.
    """

    backend: Backend
    store: Store | None = None
    cost: Cost = field(default_factory=Cost)

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
        key = unit_key(function.__qualname__, model.fingerprint, self._device(model), inputs)
        kept = self.store.get(key) if self.store else None
        if kept is not None:
            self.cost.reused += 1
            return kept
        arguments = {"anatomy": model.anatomy, **inputs, **(settings or {})}
        result = self.backend.run(model, function, arguments)
        self.cost.units += 1
        self.cost.bytes_up += tensor_bytes(inputs)
        self.cost.bytes_down += tensor_bytes(result)
        if self.store:
            self.store.put(key, result)
        return result

    def _device(self, model: Model) -> str:
        return f"{self.backend.name}/{model.envoy.device}"


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in a nested value."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(tensor_bytes(entry) for entry in entries)
