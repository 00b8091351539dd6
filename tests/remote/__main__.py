"""What running on a server comes to, measured on the loopback server: same results, faults, costs.

python -m tests.remote [GOLDEN_FOLDER]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from entitrack.core.circuits import Circuit
from entitrack.methods import method_names
from entitrack.models.family import Family
from entitrack.runtime.backends import Cost, Local, dry_run
from tests.conftest import golden_data, patched_circuit
from tests.remote import matrix
from tests.remote.command import BATCHES, Command, wait_for
from tests.remote.harness import ZOO_HOSTED, Loopback, RecordingRunner, hosted_family, zoo
from tests.remote.scenarios import SCENARIOS, UNITS, Bench, broken_program, play

PROMPTS = 84


def main(arguments: Sequence[str]) -> None:
    """Start a server, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.remote", description=str(__doc__).partition("\n")[0])
    parser.add_argument("golden", nargs="?", type=Path, default=golden_data(), help="folder of golden data")
    golden = parser.parse_args(arguments).golden
    if not golden.is_dir():
        parser.error(f"no golden data at {golden}")
    torch.set_num_threads(1)
    console = Console(width=None if sys.stdout.isatty() else 150)
    bare, full = hosted_family(golden, weights=False), hosted_family(golden, weights=True)
    circuit = patched_circuit(golden)
    with served(golden) as (server, folder):
        console.print(same_results(server))
        console.print(faults(Bench(server, bare, full, folder)))
        console.print(killed(server, golden, folder))
        console.print(costs(server, bare, circuit))


@contextmanager
def served(golden: Path) -> Iterator[tuple[Loopback, Path]]:
    """A server, and a folder that goes when it goes."""
    with tempfile.TemporaryDirectory() as name:
        server = Loopback(Path(name), [golden / "base", golden / "donor", *ZOO_HOSTED])
        try:
            yield server, Path(name)
        finally:
            server.stop()


def table(title: str, columns: Sequence[str]) -> Table:
    """An empty table; all columns after the first to the right."""
    laid = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for index, name in enumerate(columns):
        laid.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    return laid


def same_results(server: Loopback) -> Table:
    """Method by backend: the largest difference from the local result, and seconds."""
    columns = ("method", "local", "dry_run", "loopback", "sessions")
    laid = table("Largest difference from local, float32; seconds", columns)
    full, bare = zoo(weights=True), zoo(weights=False)
    for method in method_names():
        timed = []
        backends = ((full, Local()), (full, dry_run()), (bare, server.backend()))
        for family, backend in backends:
            begun = time.perf_counter()
            runner = matrix.run(method, matrix.tiny_experiment(family, backend))
            timed.append((runner, time.perf_counter() - begun))
        cells = [f"{_largest(timed[0][0], runner):.1e}; {seconds:.1f} s" for runner, seconds in timed]
        laid.add_row(method, *cells, str(timed[0][0].cost.units))
    return laid


def _largest(one: RecordingRunner, other: RecordingRunner) -> float:
    return max(matrix.differences(one, other).values())


def faults(bench: Bench) -> Table:
    """Fault by fault: what the user saw, and what was lost or done twice."""
    title = f"Faults, with {UNITS} units to do"
    laid = table(title, ("injected", "the user saw", "run again", "repeated", "lost", "run twice"))
    laid.columns[1].justify = laid.columns[2].justify = "left"
    outcomes = [play(bench, fault, **order) for fault, order in SCENARIOS.items()]
    for outcome in (*outcomes, broken_program(bench)):
        saw = outcome.saw.splitlines()[0].replace("[", "\\[")
        counts = (str(number) for number in (outcome.retries, outcome.lost, outcome.twice))
        laid.add_row(outcome.fault, saw, outcome.again, *counts)
    return laid


def killed(server: Loopback, golden: Path, folder: Path) -> Table:
    """Kill -9 between submission and result, then the same command again."""
    laid = table("kill -9 of the client between submission and result", ("", "jobs on the server", "executed"))
    command = Command(server, golden, folder)
    start = server.counts()
    server.order("slow_queue", 1, 2.0)
    process = command.start()
    wait_for(lambda: command.noted() == BATCHES, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for label in ("killed", "after the restart"):
        counts = server.counts()
        laid.add_row(label, *(str(counts[name] - start[name]) for name in ("jobs", "executed")))
        if label == "killed":
            said, _ = command.finish()
    laid.caption = next(line.strip() for line in said.splitlines() if "collected" in line)
    return laid


def costs(server: Loopback, bare: Family, circuit: Circuit) -> Table:
    """What methods ask of a server: on the golden model with all prompts in one batch, the others on the tiny one."""
    columns = ["method", "jobs", "up a job", "tensors up", "down a job", "tensors down"]
    columns += ["queued", "running", "transfer"]
    laid = table("Cost; bytes a job on the wire and in tensors, seconds summed over jobs", columns)
    for method in ("evaluate", "path_patching", "cmap"):
        on = matrix.experiment(bare, circuit, server.backend(), PROMPTS, PROMPTS)
        _add_cost(laid, f"{method}, golden, {PROMPTS} prompts", matrix.run(method, on).cost)
    laid.caption = transplant_overhead(server, bare, circuit)
    tiny = zoo(weights=False)
    for method in method_names():
        cost = matrix.run(method, matrix.tiny_experiment(tiny, server.backend(), PROMPTS)).cost
        if cost.jobs:
            _add_cost(laid, f"{method}, tiny", cost)
    return laid


def _add_cost(laid: Table, label: str, cost: Cost) -> None:
    sizes = (f"{size // cost.jobs:,}" for size in (cost.wire_up, cost.bytes_up, cost.wire_down, cost.bytes_down))
    seconds = (f"{value:.2f} s" for value in (cost.queued_s, cost.running_s, cost.transfer_s))
    laid.add_row(label, str(cost.jobs), *sizes, *seconds)


def transplant_overhead(server: Loopback, bare: Family, circuit: Circuit) -> str:
    """The upload of a transplant against the slices in it."""
    slices = PROMPTS * sum(len(group.heads) for group in circuit.groups) * bare.load("base").anatomy["d_head"] * 4
    upload = server.counts()["uploads"][-3]  # the last two are of random heads
    return f"cmap: {upload:,} bytes carry {slices:,} bytes of slices ({upload / slices:.2f} x)"


if __name__ == "__main__":
    main(sys.argv[1:])
