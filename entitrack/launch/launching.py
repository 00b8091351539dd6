"""The launchers: each takes jobs, and yields their numbers and why they failed, as they end.

Every job is a process of its own, which may be killed at any time: what it has finished is in the store, and its result
in its folder or not at all. A hand that stops the sweep stops the jobs as well.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError, reason
from entitrack.launch.settings import JoblibSettings, RaySettings, SubmititSettings
from entitrack.launch.work import Work, do

Ended = Iterator[tuple[int, str | None]]
"""Numbers of jobs, and why they failed; None where they did not."""


def with_joblib(settings: JoblibSettings, works: Sequence[Work], folder: Path) -> Ended:
    """In processes of this machine, its cores divided among them."""
    joblib = _library("joblib")
    cores = len(os.sched_getaffinity(0))
    jobs = min(settings.jobs or cores, len(works))
    threads = settings.threads or max(1, cores // jobs)
    started = [joblib.delayed(_do)(replace(work, threads=threads)) for work in works]
    with joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=threads):
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(started)


def _do(work: Work) -> tuple[int, str | None]:
    """`do`, in a process that is used for several jobs: what fails is told, and the next one begins."""
    try:
        return do(work)
    except Exception as error:
        return work.number, reason(error)


def with_submitit(settings: SubmititSettings, works: Sequence[Work], folder: Path) -> Ended:
    """As an array of SLURM jobs, or in processes of this machine; what they print is in `submitit/` of the folder."""
    submitit = _library("submitit")
    with _refused("launcher.cluster", "launcher.cluster=local tries it on this machine"):
        executor = submitit.AutoExecutor(folder=folder / "submitit", cluster=settings.cluster)
    executor.update_parameters(**_resources(settings))
    waiting, running = list(works), dict[int, Any]()
    most = len(works) if settings.cluster == "slurm" else settings.jobs
    try:
        while waiting or running:
            begun, waiting = waiting[: most - len(running)], waiting[most - len(running) :]
            if begun:
                running |= dict(zip((work.number for work in begun), executor.map_array(_do, begun), strict=True))
            yield from _ended(running)
    finally:
        for job in running.values():
            job.cancel()


def _resources(settings: SubmititSettings) -> dict[str, Any]:
    """What SLURM is asked for, in submitit's words."""
    asked: dict[str, Any] = {
        "name": "entitrack",
        "timeout_min": settings.minutes,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus,
        "mem_gb": settings.memory_gb,
    }
    if settings.cluster == "local":
        return asked
    partition = {"slurm_partition": settings.partition} if settings.partition else {}
    more = {"slurm_additional_parameters": dict(settings.more)} if settings.more else {}
    return {**asked, "slurm_array_parallelism": settings.jobs, **partition, **more}


def _ended(running: dict[int, Any]) -> Ended:
    """Wait until some of the jobs that run have ended; they are taken out."""
    import time

    ended = [number for number, job in running.items() if job.done()]
    if not ended:
        time.sleep(_LOOK_S)
    for number in ended:
        job = running.pop(number)
        try:
            yield job.result()
        except Exception as error:  # the process died, or could not be started: its last words are in a file
            yield number, f"{reason(error)}; see {job.paths.stderr}"


_LOOK_S = 0.5
"""Seconds between two looks for jobs that have ended."""


def with_ray(settings: RaySettings, works: Sequence[Work], folder: Path) -> Ended:
    """As tasks of a Ray cluster."""
    ray = _library("ray")
    with _refused("launcher.address", "launcher.address=null starts Ray on this machine"):
        ray.init(address=settings.address, log_to_driver=False, logging_level="ERROR")
    try:
        task = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0)(_do)
        running = {task.remote(work): work.number for work in works}
        while running:
            ended, _ = ray.wait(list(running), num_returns=1)
            for job in ended:
                number = running.pop(job)
                try:
                    yield ray.get(job)
                except Exception as error:  # the process died
                    yield number, reason(error)
    finally:
        ray.shutdown()


@contextmanager
def _refused(place: str, fix: str) -> Iterator[None]:
    """A cluster that there is not is one line."""
    try:
        yield
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise UserError(place, reason(error), fix=fix) from error


def _library(name: str) -> Any:
    """A library that only a launcher needs.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError("launcher", f"needs {name} ({reason(error)})", fix=f"pip install {name}") from error


LAUNCHERS: dict[str, Callable[..., Ended]] = {"joblib": with_joblib, "submitit": with_submitit, "ray": with_ray}
"""Launchers by the name of their settings; of `local`, jobs run where the sweep does."""
