"""Every method on every backend: the largest difference from here, seconds, and what crosses the sandbox's socket."""

from __future__ import annotations

import time
from dataclasses import dataclass

from entitrack.core.errors import UserError
from entitrack.models.family import Family
from entitrack.runtime.backends import Backend, Local
from tests.remote import matrix
from tests.remote.harness import RecordingRunner
from tests.remote.real.served import Real

CONTEXTS = 7
LEARNED = 14
"""Contexts of a method that splits them in three."""

UNTRUSTED = "sandbox"


@dataclass(frozen=True)
class Measured:
    """A method on a backend, against the same here.

    Attributes:
        probabilities: Largest difference of probabilities, effects and tokens.
        logits: Of logits and activations.
        seconds: From the method's start to its end, here.
        units: Sessions.
        inside: Seconds of these on the server, in its models' processes.
        messages: That crossed the sandbox's socket.
        bytes: The same.
        refused: What it said, where it was refused.
    """

    probabilities: float = 0.0
    logits: float = 0.0
    seconds: float = 0.0
    units: int = 0
    inside: float = 0.0
    messages: int = 0
    bytes: int = 0
    refused: str = ""


def run(method: str, family: Family, backend: Backend) -> RecordingRunner:
    """A method on few prompts of the embedded family."""
    contexts = LEARNED if method == "dcm" else CONTEXTS
    return matrix.run(method, matrix.tiny_experiment(family, backend, 2 * contexts))


def reference(method: str, family: Family) -> tuple[RecordingRunner, Measured]:
    """A method here, directly."""
    begun = time.perf_counter()
    runner = run(method, family, Local())
    return runner, Measured(seconds=time.perf_counter() - begun, units=runner.cost.units)


def measure(method: str, here: RecordingRunner, family: Family, backend: Backend, real: Real | None = None) -> Measured:
    """A method on a backend, against what it gives here; what is said of the socket is only said of a real server."""
    counted = len(real.counts()) if real else 0
    begun = time.perf_counter()
    try:
        runner = run(method, family, backend)
    except UserError as error:
        return Measured(seconds=time.perf_counter() - begun, refused=str(error).splitlines()[0])
    seconds = time.perf_counter() - begun
    counts = real.counts()[counted:] if real else []
    inside, messages, crossed = (sum(job.get(name, 0) for job in counts) for name in ("seconds", "messages", "bytes"))
    differences = matrix.by_kind(here, runner)
    return Measured(*differences, seconds, runner.cost.units, inside, messages, crossed)
