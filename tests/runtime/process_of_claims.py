"""A run without a model, for tests of several processes on one store: every unit it runs is a line of a log."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from entitrack.runtime.backends import Cost, Pending, Runner, Unit
from entitrack.runtime.store import Store


@dataclass(frozen=True)
class Slow:
    """A backend that needs its time, and writes down what it has done."""

    log: Path
    in_flight: int
    seconds: float
    form: str = "direct"
    name: str = "slow"

    waits_for: str = ""

    def place(self, model: Any) -> str:
        return "here"

    def record(self) -> dict[str, Any]:
        return {}

    def start(self, unit: Unit, store: Store | None, cost: Cost) -> Pending:
        def finish() -> dict[str, Any]:
            time.sleep(self.seconds)
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(handle, f"{unit.key}\n".encode())
            os.close(handle)
            return {"number": torch.tensor([unit.inputs["number"]])}

        return finish


def echo(*_: Any, **__: Any) -> dict[str, Any]:
    """What the units pretend to run."""
    raise NotImplementedError


@dataclass(frozen=True)
class Order:
    """What a run shall do.

    Attributes:
        store: Folder of the store.
        log: File of units that were run.
        outcome: File for what the run says that it did, as JSON.
        units: Numbers of its units, in the order that they are needed in.
        in_flight: How many may be started at a time.
        seconds: How long each takes.
        nested: The inputs of every unit come from the result of another.
    """

    store: Path
    log: Path
    outcome: Path
    units: tuple[int, ...]
    in_flight: int = 1
    seconds: float = 0.02
    nested: bool = False


def run(order: Order) -> None:
    """Run all units of an order; their results must be theirs."""
    runner = Runner(Slow(order.log, order.in_flight, order.seconds), Store(order.store))
    model: Any = SimpleNamespace(name="m", anatomy={}, fingerprint="m", identity=SimpleNamespace(digest="m"))

    def outer() -> Iterator[dict[str, Any]]:
        for inner in runner.map(model, echo, [{"number": 1000 + number} for number in order.units]):
            yield {"number": int(inner["number"]) - 1000}

    inputs = outer() if order.nested else [{"number": number} for number in order.units]
    numbers = [int(result["number"]) for result in runner.map(model, echo, inputs, total=len(order.units))]
    assert numbers == list(order.units)
    order.outcome.write_text(json.dumps({"units": runner.cost.units, "reused": runner.cost.reused}))
