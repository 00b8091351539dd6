"""What a run leaves in W&B. Offline unless asked otherwise; an account is never asked for.

A run is logged once its result is on the disk, by a process of its own; whatever happens to that is one line.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from time import monotonic
from typing import IO, Any, TypedDict

import torch
from torch import Tensor

from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError
from entitrack.core.measurement import STEP
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Table
from entitrack.record.folder import FIGURE
from entitrack.record.settings import TrackingSettings
from entitrack.record.wandb_artifacts import artifacts
from entitrack.record.wandb_process import Logged, LoggedTable

LONGEST_NAME, LONGEST_TAG = 128, 64
"""Characters that W&B takes."""

_MEMBER = re.compile(r"^.+ \((base|donor|recipient)\)$")


def check_tracking(tracking: TrackingSettings) -> None:
    """Refuse a mode that cannot work, before anything is computed.

    Raises:
        UserError: It is `online`, and there is no account.
    """
    if tracking.mode == "online" and not _has_key():
        fix = "set WANDB_API_KEY, run `wandb login`, or use tracking=offline"
        raise UserError("tracking", "online recording needs an account and none is logged in", fix=fix)


class Recording:
    """A finished run that a process of its own logs.

    Args:
        process: That process.
        complaints: What it writes of what went wrong.
        timeout_s: Seconds that it may take, from now.
    """

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes], timeout_s: float) -> None:
        self._process, self._complaints, self._timeout_s = process, complaints, timeout_s
        self._until = monotonic() + timeout_s

    def finish(self) -> str | None:
        """Wait until it is logged; gives why it could not be. A process that does not end is ended."""
        with self._complaints:
            try:
                self._process.wait(max(0.0, self._until - monotonic()))
            except subprocess.TimeoutExpired:
                return f"it did not finish within tracking.timeout_s={self._timeout_s:g}"
            finally:
                _end(self._process)
            self._complaints.seek(0)
            lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        if self._process.returncode:
            return lines[-1] if lines else f"its process ended with {self._process.returncode}"
        return None


def record(result: Result, tracking: TrackingSettings, folder: Path, keys: Keys) -> str | None:
    """Log configuration, metrics, tables and figure of a run that is on the disk; gives why it could not be done."""
    recording = begin_recording(result, tracking, folder, keys)
    return recording.finish() if isinstance(recording, Recording) else recording


def begin_recording(result: Result, tracking: TrackingSettings, folder: Path, keys: Keys) -> Recording | str | None:
    """Begin to log a run that is on the disk, while something else goes on.

    Returns:
        What to wait for; or why it could not be done; or None where nothing is logged.
    """
    if tracking.mode == "disabled":
        return None
    text = json.dumps(keys.hide_within(logged(result, tracking, folder)))
    with ExitStack() as opened:
        try:
            complaints = opened.enter_context(tempfile.TemporaryFile())
            told = opened.enter_context(tempfile.TemporaryFile())
            told.write(text.encode())
            told.seek(0)
            process = _start(told, complaints)
        except OSError as error:
            return str(error)
        return Recording(process, os.fdopen(os.dup(complaints.fileno()), "rb"), tracking.timeout_s)


def logged(result: Result, tracking: TrackingSettings, folder: Path) -> Logged:
    """What is logged of a finished run, as plain values."""
    figure = folder / FIGURE
    return {
        "project": tracking.project,
        "mode": tracking.mode,
        "folder": str(folder),
        "job_type": result.method,
        **labels(result, tracking),
        "config": {**result.provenance["config"], "command": result.provenance["command"]},
        "points": curve_points(learning_curves(result)),
        "metrics": metrics(result.tables[0]),
        "tables": [_table(table) for table in result.tables],
        "figure": str(figure) if figure.is_file() else None,
        "artifacts": artifacts(result, folder),
    }


class Labels(TypedDict):
    """What a run is found by among others."""

    name: str
    group: str
    tags: list[str]
    notes: str


def labels(result: Result, tracking: TrackingSettings) -> Labels:
    """What a run is called: its method, its models and its prompts; runs of one family and task are a group."""
    used = result.provenance
    config, models = used["config"], list(used["models"])
    family, task = config["model"]["name"], config["task"]["name"]
    prompts, seed = used["prompts"]["count"], config["task"].get("seed", config["seed"])
    tags = [result.method, family, task, *models, *(["compat=paper"] if config["compat"] == "paper" else [])]
    return {
        "name": f"{result.method} {family} ({', '.join(models)}) {task} n{prompts} seed {seed}"[:LONGEST_NAME],
        "group": tracking.group or f"{family} {task}",
        "tags": [tag[:LONGEST_TAG] for tag in dict.fromkeys([*tags, *tracking.tags])],
        "notes": "\n".join((used["command"], *result.notes)),
    }


def _start(told: IO[bytes], complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process that logs what it is told; it finds this package, and is not told the server's key."""
    environment = {name: value for name, value in os.environ.items() if name != "NDIF_API_KEY"}
    package = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (environment.get("PYTHONPATH"), package)))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "entitrack.record.wandb_process"],
        stdin=told,
        stdout=subprocess.DEVNULL,
        stderr=complaints,
        env=environment,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and those that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _table(table: Table) -> LoggedTable:
    return {"columns": list(table.columns), "data": [[_plain(cell) for cell in row] for row in table.rows]}


def learning_curves(result: Result) -> dict[str, tuple[Tensor, Tensor]]:
    """Measurements along steps of training: name and entries of the other axes -> steps and values that are there."""
    curves = {}
    for name, measurement in result.measurements.items():
        if measurement.axes[-1:] != (STEP,):
            continue
        steps = torch.tensor([int(step) for step in measurement.names(STEP)])
        for entries in product(*(measurement.names(axis) for axis in measurement.axes[:-1])):
            values = measurement.at(**dict(zip(measurement.axes, entries, strict=False))).values
            there = ~values.isnan()
            curves["/".join((name, *entries))] = (steps[there], values[there])
    return curves


def curve_points(curves: Mapping[str, tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    """Learning curves (name -> steps and values) step by step: the values of all curves that have one there."""
    points: dict[int, dict[str, float]] = {}
    for name, (steps, values) in curves.items():
        for step, value in zip(steps.tolist(), values.tolist(), strict=True):
            points.setdefault(int(step), {})[name] = value
    return [points.get(step, {}) for step in range(max(points, default=-1) + 1)]


def metrics(table: Table) -> dict[str, float]:
    """The numbers of a table by row and column, `row/column`; an interval's ends as `_low` and `_high` beside it."""
    found: dict[str, float] = {}
    for label, column, cell in numbers(table):
        value = cell.value if isinstance(cell, Estimate) else cell
        ends = {"_low": cell.low, "_high": cell.high} if isinstance(cell, Estimate) else {}
        told = {"": value, **ends}
        found |= {f"{label}/{column}{end}": number for end, number in told.items() if math.isfinite(number)}
    return found


def numbers(table: Table) -> Iterator[tuple[str, str, float | Estimate]]:
    """Row, column and content of every cell that is a number; whole ones are counts of something else.

    A row that is named after what a member is in it, `float (donor)`, is `donor`, so that runs of several donors have
    their numbers under one name. Rows of one name are told apart by the whole numbers and the texts that follow it.
    """
    for label, row in zip(_row_labels(table), table.rows, strict=True):
        for column, cell in zip(table.columns[1:], row[1:], strict=True):
            if isinstance(cell, Estimate | float):
                yield label, column.split(" [")[0], cell


def _row_labels(table: Table) -> list[str]:
    """What the rows are called, each otherwise."""
    labels = [_MEMBER.sub(r"\1", str(row[0])) for row in table.rows]
    for column in range(1, len(table.columns)):
        if len(set(labels)) == len(labels):
            break
        told = [row[column] for row in table.rows]
        labels = [f"{label}/{cell}" if isinstance(cell, str | int) else label
                  for label, cell in zip(labels, told, strict=True)]  # fmt: skip
    return labels


def _plain(cell: Any) -> Any:
    return str(cell) if isinstance(cell, Estimate) else cell


def _has_key() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
