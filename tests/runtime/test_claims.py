"""Processes on one store: every unit is run once, none is lost, and none waits for ever."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.runtime.claims import Claims
from entitrack.runtime.store import Store
from tests.processes import holding, start
from tests.runtime.process_of_claims import Order, run

UNITS = 12
PATIENCE_S = 120.0
ONE, TWO, THREE = ("ab" + digit * 62 for digit in "123")


class Processes:
    """Runs on one store, each in a process of its own; a server that has imported all that they need makes them.

    Args:
        folder: Where store and log are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.store, self._log = folder, folder / "store", folder / "log"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.runtime.process_of_claims"])
        self._outcomes: dict[int | None, Path] = {}

    def start(self, units: Sequence[int], in_flight: int = 1, nested: bool = False) -> BaseProcess:
        outcome = self._folder / f"outcome-{len(self._outcomes)}"
        order = Order(self.store, self._log, outcome, tuple(units), in_flight, nested=nested)
        process = self._context.Process(target=run, args=(order,))
        process.start()
        self._outcomes[process.pid] = outcome
        return process

    def finish(self, process: BaseProcess) -> dict[str, int]:
        """What a run says that it did."""
        process.join(PATIENCE_S)
        assert process.exitcode == 0
        return json.loads(self._outcomes[process.pid].read_text())

    def runs(self) -> Counter[str]:
        """Key -> how often it was run."""
        return Counter(self._log.read_text().split() if self._log.exists() else [])


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


@pytest.mark.parametrize(("in_flight", "nested"), [(1, False), (4, False), (3, True)])
def test_two_processes_in_opposite_orders_run_every_unit_once(
    in_flight: int, nested: bool, processes: Processes
) -> None:
    numbers = list(range(UNITS))
    running = [processes.start(order, in_flight, nested=nested) for order in (numbers, numbers[::-1])]
    costs = [processes.finish(process) for process in running]
    total = UNITS * (2 if nested else 1)
    assert sum(cost["units"] for cost in costs) == total == len(processes.runs())
    assert set(processes.runs().values()) == {1}
    assert all(cost["units"] + cost["reused"] == total for cost in costs)
    assert len(list(processes.store.rglob("*.safetensors"))) == total
    assert list((processes.store / "locks").iterdir()) == []


def test_what_killed_processes_were_at_is_done_by_others(processes: Processes) -> None:
    """Nothing is run twice but what a kill cut off between its end and its record."""
    drawn, kills = random.Random(0), 0
    while len(processes.runs()) < UNITS:
        order = drawn.sample(range(UNITS), UNITS)
        running = [processes.start(order, 3), processes.start(order[::-1], 3)]
        before = len(processes.runs())
        while len(processes.runs()) < before + 2 and any(process.is_alive() for process in running):
            time.sleep(0.001)
        for victim in running:
            victim.kill()
            victim.join()
            kills += 1
    cost = processes.finish(processes.start(list(range(UNITS)), 3))
    assert cost["units"] + cost["reused"] == UNITS
    runs = processes.runs()
    assert len(runs) == UNITS
    assert sum(runs.values()) <= UNITS + kills
    assert len(list(processes.store.rglob("*.safetensors"))) == UNITS
    assert [path for path in processes.store.rglob("*") if path.suffix == ".part" or path.parent.name == "locks"] == []


def fails() -> Any:
    raise AssertionError("run although another process is at work on it")


def runs(number: float, store: Store, key: str) -> Callable[[], Callable[[], dict[str, Any]]]:
    """Starts a unit that keeps a number."""

    def finish() -> dict[str, Any]:
        result = {"number": torch.tensor(number)}
        store.put(key, result)
        return result

    return lambda: finish


class Counting(Claims):
    """Claims that count what is reused."""

    def __init__(self, store: Store) -> None:
        self.reused = 0
        super().__init__(store, self.count)

    def count(self) -> None:
        self.reused += 1


OTHER = """
import sys, torch
from pathlib import Path
from entitrack.runtime.store import Store
store = Store(Path(sys.argv[1]))
has, needs = store.lock(sys.argv[2]), store.lock(sys.argv[3])
assert has.take()
print("holding", flush=True)
if not needs.take(30.0):
    sys.exit("what this process needs is held by one that waits for it")
store.put(sys.argv[2], {"number": torch.tensor(7.0)})
has.free()
"""


def test_who_waits_holds_nothing(tmp_path: Path) -> None:
    """Each needs what the other is at work on: the one that has to wait finishes first what it has started."""
    store = Store(tmp_path)
    claims = Counting(store)
    own = claims.begin(ONE, runs(1.0, store, ONE))
    other = start(OTHER, tmp_path, TWO, ONE)
    assert float(claims.begin(TWO, fails)()["number"]) == 7.0
    assert other.wait(PATIENCE_S) == 0
    assert float(own()["number"]) == 1.0
    assert claims.reused == 1


def test_a_unit_whose_process_is_killed_is_run_here(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claims = Counting(store)
    with holding(tmp_path, ONE):
        pending = claims.begin(ONE, runs(1.0, store, ONE))
    assert float(pending()["number"]) == 1.0
    assert claims.reused == 0
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_unit_that_is_needed_twice_at_once_is_run_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claims = Counting(store)
    first = claims.begin(ONE, runs(1.0, store, ONE))
    second = claims.find(ONE)
    assert second is not None
    assert second() is first()
    assert claims.reused == 1


def test_a_unit_that_fails_is_free(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claims = Counting(store)

    def fail() -> dict[str, Any]:
        raise KeyboardInterrupt

    starts: list[Callable[[], Callable[[], dict[str, Any]]]] = [lambda: fail, lambda: fail()["never"]]
    for begin in starts:
        with pytest.raises(KeyboardInterrupt):
            claims.begin(ONE, begin)()
        assert list((tmp_path / "locks").iterdir()) == []
        assert claims.find(ONE) is None


def test_what_nobody_asks_for_any_more_is_free(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claims = Counting(store)
    claims.begin(ONE, runs(1.0, store, ONE))
    assert [path.name for path in (tmp_path / "locks").iterdir()] == [ONE]
    claims.free([ONE, TWO])
    assert list((tmp_path / "locks").iterdir()) == []
    assert claims.find(ONE) is None


def test_locks_that_are_held_are_not_cleaned_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lock = store.lock(THREE)
    assert lock.take()
    with holding(tmp_path, ONE), holding(tmp_path, TWO) as killed:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        store.clean_up()
        assert sorted(path.name for path in (tmp_path / "locks").iterdir()) == [ONE, THREE]
        assert not store.lock(ONE).take()
    lock.free()


WAIT = """
import signal, sys
from pathlib import Path
from entitrack.runtime.claims import Claims
from entitrack.runtime.store import Store
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
store = Store(Path(sys.argv[1]))
claims = Claims(store, lambda: None)
own = claims.begin(sys.argv[3], lambda: lambda: {})
print("waiting", flush=True)
try:
    claims.begin(sys.argv[2], lambda: lambda: {})()
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_waiting_is_said_and_can_be_interrupted(tmp_path: Path) -> None:
    with holding(tmp_path, ONE):
        command = [sys.executable, "-c", WAIT, str(tmp_path), ONE, TWO]
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        more = waiting.communicate(timeout=PATIENCE_S)[1]
    assert said == "entitrack: warning: store: another run is at work on what this one needs; waiting for it\n"
    assert (waiting.returncode, more) == (130, "")
