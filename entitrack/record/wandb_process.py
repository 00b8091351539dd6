"""A process that writes one finished run to W&B, and dies of it alone.

It reads JSON from standard input, see `Logged`; the last line of its standard error is why it failed. It is a process
of its own because a library that hangs, or fails when the interpreter ends, must not take a result with it; and because
W&B records the command line of the process that it runs in.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TypedDict


class LoggedTable(TypedDict):
    """A table: names of its columns, and rows of plain cells."""

    columns: list[str | int]
    data: list[list[Any]]


class Logged(TypedDict):
    """What is logged of a run.

    `points` are curves, step by step; `figure` is the path of an image.
    """

    project: str
    mode: str
    folder: str
    job_type: str
    config: dict[str, Any]
    points: list[dict[str, float]]
    metrics: dict[str, float]
    tables: list[LoggedTable]
    figure: str | None


def write(logged: Logged) -> None:
    """Log a run."""
    import wandb

    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, x_disable_stats=True, x_save_requirements=False
    )
    run = wandb.init(
        project=logged["project"],
        mode=logged["mode"],  # type: ignore[arg-type]
        dir=logged["folder"],
        config=logged["config"],
        job_type=logged["job_type"],
        settings=settings,
    )
    values: dict[str, Any] = dict(logged["metrics"])
    for number, table in enumerate(logged["tables"]):
        values[f"table_{number}"] = wandb.Table(**table, allow_mixed_types=True)
    if logged["figure"]:
        values["figure"] = wandb.Image(logged["figure"])
    for step, points in enumerate(logged["points"]):
        run.log(points, step=step)
    run.log(values)
    run.finish()


def main() -> None:
    """Log what standard input holds."""
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        write(json.load(sys.stdin))
    except BaseException as error:  # the last line is what the waiting process shows
        print(f"\n{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
