"""What a run leaves in W&B. Offline unless asked otherwise; an account is never asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from entitrack.config import RunConfig
from entitrack.core.measurement import STEP
from entitrack.core.result import Result
from entitrack.core.table import Table
from entitrack.errors import UserError
from entitrack.stats import Estimate

MODES = ("offline", "online", "disabled")


def check_tracking(mode: str) -> None:
    """Refuse a mode that cannot work, before anything is computed.

    Raises:
        UserError: The mode is unknown, or it is `online` and there is no account.
    """
    if mode not in MODES:
        raise UserError("tracking.mode", f"unknown mode {mode!r}", MODES)
    if mode == "online" and not _has_key():
        fix = "set WANDB_API_KEY, run `wandb login`, or use tracking=offline"
        raise UserError("tracking", "online recording needs an account and none is logged in", fix=fix)


def record(config: RunConfig, result: Result, figure: Path | None, folder: Path) -> None:
    """Log configuration, metrics, tables and figure of a finished run."""
    if config.tracking.mode == "disabled":
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    run = wandb.init(
        project=config.tracking.project,
        mode=config.tracking.mode,  # type: ignore[arg-type]
        dir=str(folder),
        config=config.plain,
        job_type=config.method,
        settings=settings,
    )
    values: dict[str, Any] = dict(metrics(result.tables[0]))
    for number, table in enumerate(result.tables):
        rows = [[_plain(cell) for cell in row] for row in table.rows]
        values[f"table_{number}"] = wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)
    if figure:
        values["figure"] = wandb.Image(str(figure))
    for step, points in enumerate(curve_points(learning_curves(result))):
        run.log(points, step=step)
    run.log(values)
    run.finish()


def learning_curves(result: Result) -> dict[str, tuple[Tensor, Tensor]]:
    """Measurements along steps of training: name and entries of the other axes -> steps and values that are there."""
    curves = {}
    for name, measurement in result.measurements.items() if isinstance(result, Result) else ():
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
    """The numbers of a table by row and column: `row/column`."""
    found: dict[str, float] = {}
    for row in table.rows:
        for name, cell in zip(table.columns[1:], row[1:], strict=True):
            value = cell.value if isinstance(cell, Estimate) else cell
            if isinstance(value, float):
                found[f"{row[0]}/{name.split(' [')[0]}"] = value
    return found


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
