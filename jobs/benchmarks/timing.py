"""Seconds, with their spread, and the rate of the machine they were measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import torch


@dataclass(frozen=True)
class Seconds:
    """Repeated timings of one thing.

    Attributes:
        runs: Seconds of each run.
    """

    runs: tuple[float, ...]

    @property
    def typical(self) -> float:
        """The median."""
        return median(self.runs)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.runs) - min(self.runs)) / self.typical


def measure(work: Callable[[], object], device: str, repeats: int = 3, warm_up: int = 1) -> Seconds:
    """Time a piece of work.

    On one thread of a CPU the processor's own seconds are counted, so that what else the machine does is left out.
    """
    alone = device == "cpu" and torch.get_num_threads() == 1
    clock = process_time if alone else perf_counter
    for _ in range(warm_up):
        work()
    runs = []
    for _ in range(repeats):
        synchronize(device)
        begun = clock()
        work()
        synchronize(device)
        runs.append(clock() - begun)
    return Seconds(tuple(runs))


def synchronize(device: str) -> None:
    """Wait for the accelerator."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def multiply_add_rate(tokens: int, d_in: int, d_out: int, dtype: torch.dtype, device: str) -> float:
    """Multiply-adds a second of a matrix product `[tokens, d_in] x [d_in, d_out]`, the best of several runs."""
    left = torch.randn(tokens, d_in, dtype=dtype, device=device)
    right = torch.randn(d_in, d_out, dtype=dtype, device=device)
    seconds = measure(lambda: left @ right, device, repeats=7, warm_up=2)
    return tokens * d_in * d_out / min(seconds.runs)
