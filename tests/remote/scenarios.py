"""Faults to order, and what a user then sees: one scenario each, for the tests and for the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.engine.patching import answer, answer_patched
from entitrack.methods.experiment import prompt_inputs
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from entitrack.tasks.encoding import encode
from tests.golden_prompts import GoldenTask
from tests.remote.harness import KEY, Loopback, largest_difference

UNITS = 3
SERVED = "the run finished"


@dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes:
        fault: What was ordered.
        saw: What the user saw: that the run finished, or the message.
        again: What running it again gave, where the first run stopped.
        lost: Units without a right result at the end.
        twice: Executions on the server beyond one a unit and those that the fault makes necessary.
        retries: Requests that were repeated.
    """

    fault: str
    saw: str
    again: str
    lost: int
    twice: int
    retries: int


@dataclass
class Bench:
    """A server, a family without weights, and three small units with their right results."""

    server: Loopback
    bare: Family
    full: Family
    folder: Path
    inputs: list[dict[str, Any]] = field(default_factory=list)
    right: list[dict[str, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        prompts = GoldenTask(frozenset(self.bare.tokenizer.get_vocab()), count=2 * UNITS).prompts()
        for number in range(UNITS):
            batch = encode(prompts[2 * number : 2 * number + 2], self.bare.tokenizer, "right")
            self.inputs.append({"prompts": prompt_inputs(batch)})
        self.right = list(Runner(Local()).map(self.full.load("base"), answer, self.inputs))

    def runner(self, store: str, **settings: Any) -> Runner:
        return Runner(self.server.backend(**settings), Store(self.folder / store))

    def run(self, runner: Runner, function: Any = answer, inputs: Any = None) -> list[dict[str, Tensor]]:
        return list(runner.map(self.bare.load("base"), function, inputs or self.inputs))


def play(
    bench: Bench, fault: str, order: Callable[[Loopback], None], again: bool = False, anew: int = 0, **settings: Any
) -> Outcome:
    """Order a fault, run three units, and run them again if that stopped.

    Args:
        bench: Where.
        fault: What the fault is called in the table.
        order: Orders it.
        again: The first run is expected to stop.
        anew: How many jobs have to run again.
        settings: Of the client, in the first run.
    """
    before = bench.server.counts()["executed"]
    order(bench.server)
    store = fault.replace(" ", "_")
    first = bench.runner(store, **settings)
    retries, results = 0, []
    saw, second = SERVED, ""
    try:
        results = bench.run(first)
    except UserError as error:
        saw = str(error).splitlines()[0]
    bench.server.need_key("")
    bench.server.order("expire", 0)
    if again:
        runner = bench.runner(store)
        results = bench.run(runner)
        second = f"{runner.cost.jobs} submitted, {runner.cost.collected} collected, {runner.cost.reused} from the store"
    retries = first.cost.retries
    lost = sum(largest_difference(got, right) > 1e-6 for got, right in zip(results, bench.right, strict=False))
    lost += UNITS - len(results)
    twice = bench.server.counts()["executed"] - before - UNITS - anew
    return Outcome(fault, saw, second, lost, twice, retries)


def broken_program(bench: Bench) -> Outcome:
    """A head that the model does not have: an error in the program, on the server."""
    before = bench.server.counts()["executed"]
    prompts = bench.inputs[0]["prompts"]
    values = bench.right[0]["probability"].new_zeros(2, 1, 16)
    site = {"component": "z", "layer": 0, "heads": [99], "position": prompts["last"], "values": values}
    runner = bench.runner("broken")
    saw = SERVED
    try:
        bench.run(runner, answer_patched, [{"prompts": prompts, "patches": [site], "variants": [[0]]}])
    except UserError as error:
        saw = str(error)
    twice = bench.server.counts()["executed"] - before - 1
    return Outcome("error in the program", saw, "", 0, twice, runner.cost.retries)


def restarted_without_its_queue(server: Loopback) -> None:
    """A job stays in the queue, and the server is away for a moment."""
    server.order("strand", UNITS)
    server.order("poll_unavailable", 1)


SCENARIOS: dict[str, dict[str, Any]] = {
    "503 twice": {"order": lambda server: server.order("reconnecting", 2)},
    "504 while asking what is hosted": {"order": lambda server: server.order("status_timeout", 2)},
    "422": {"order": lambda server: server.order("unprocessable", 1), "again": True},
    "502 while asking, three times": {"order": lambda server: server.order("poll_unavailable", 3)},
    "websocket dropped after RUNNING": {"order": lambda server: server.order("drop_socket", 1)},
    "connection dropped after RUNNING": {"order": lambda server: server.order("drop_poll", 2)},
    "nothing known of a job at first": {"order": lambda server: server.order("slow_dispatch", 1, 0.3)},
    "slow queue": {"order": lambda server: server.order("slow_queue", 1, 0.5)},
    "corrupt result, twice": {"order": lambda server: server.order("corrupt", 1, 2)},
    "corrupt result, eight times": {"order": lambda server: server.order("corrupt", 1, 8), "again": True},
    "address of a result expired": {"order": lambda server: server.order("expire", 1), "anew": 1},
    "addresses of results always expire": {"order": lambda server: server.order("expire", 9), "again": True, "anew": 5},
    "models lost under a job": {"order": lambda server: server.order("purge", 1)},
    "a key that is not known": {"order": lambda server: server.need_key(KEY), "again": True, "key": KEY[::-1]},
    "unreachable for long": {
        "order": lambda server: server.order("reconnecting", 6),
        "again": True,
        "reconnect_s": 0.0,
    },
    "job forgotten by the server": {"order": lambda server: server.order("forget", 1), "again": True},
    "queue forgotten in a restart": {"order": restarted_without_its_queue, "requeue_s": 0.3, "timeout_s": 60.0},
    "passed over in the queue": {
        "order": lambda server: server.order("strand", 1),
        "requeue_s": 0.3,
        "timeout_s": 60.0,
    },
    "job takes too long": {"order": lambda server: server.order("hang", 1, 4.0), "again": True, "timeout_s": 0.5},
}
"""Fault -> how it is ordered, whether the first run stops, and how many jobs have to run anew."""
