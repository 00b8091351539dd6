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


class LoggedArtifact(TypedDict):
    """An artifact: `texts` and `files` by their names in it; files are named by their paths."""

    name: str
    type: str
    used: bool
    """Whether the run takes it; it leaves it otherwise."""
    metadata: dict[str, Any]
    texts: dict[str, str]
    files: dict[str, str]


class Logged(TypedDict):
    """What is logged of a run.

    `points` are curves, step by step; `figure` is the path of an image; `artifacts` are taken or left in this order.
    """

    project: str
    mode: str
    folder: str
    job_type: str
    name: str
    group: str
    tags: list[str]
    notes: str
    config: dict[str, Any]
    points: list[dict[str, float]]
    metrics: dict[str, float]
    tables: list[LoggedTable]
    figure: str | None
    artifacts: list[LoggedArtifact]


def write(logged: Logged) -> None:
    """Log a run."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):  # else it keeps what is to be synchronised in the home folder
        os.environ[name] = os.path.join(logged["folder"], "wandb")
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
        name=logged["name"],
        group=logged["group"],
        tags=logged["tags"],
        notes=logged["notes"],
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
    for artifact in logged["artifacts"]:
        _put(run, _made(artifact), artifact["used"], logged["mode"])
    run.finish()


def _made(artifact: LoggedArtifact) -> Any:
    import wandb

    made = wandb.Artifact(artifact["name"], artifact["type"], metadata=artifact["metadata"])
    for name, text in artifact["texts"].items():
        with made.new_file(name, encoding="utf-8") as stream:
            stream.write(text)
    for name, path in artifact["files"].items():
        made.add_file(path, name, policy="immutable")  # where it is, without a copy
    return made


def _put(run: Any, made: Any, used: bool, mode: str) -> None:
    """Say that a run takes an artifact, or leaves it.

    What the public way to take one does online, which is refused offline, is recorded all the same and holds once the
    run is synchronised: the artifact is logged, and taken as soon as it is there.
    """
    if not used:
        run.log_artifact(made)
    elif mode == "online":
        run.use_artifact(made)
    else:
        run._log_artifact(made, is_user_created=True, use_after_commit=True)


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
