"""What may be set of `launcher`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from entitrack.core.settings import Settings


class LocalSettings(Settings):
    """One job after another, in this process."""

    place: ClassVar[str] = "launcher"


class JoblibSettings(Settings):
    """Several jobs at a time in processes of this machine, its cores divided among them (pip install joblib)."""

    place: ClassVar[str] = "launcher"
    jobs: int | None = Field(None, ge=1, le=4096, description="at a time; null: as many as there are cores")
    threads: int | None = Field(None, ge=1, le=4096, description="of each job; null: the cores, divided by the jobs")


class SubmititSettings(Settings):
    """Every job as one of a SLURM array, or in a process of this machine (pip install submitit)."""

    place: ClassVar[str] = "launcher"
    cluster: Literal["slurm", "local"] = Field("slurm", description="local: processes of this machine, for trying out")
    jobs: int = Field(16, ge=1, le=100_000, description="at a time")
    minutes: int = Field(60, ge=1, le=1_000_000, description="that a job may take")
    cpus: int = Field(4, ge=1, le=4096, description="of each job")
    gpus: int = Field(0, ge=0, le=64, description="of each job")
    memory_gb: float = Field(16, gt=0, le=100_000, description="of each job")
    partition: str | None = Field(None, description="of the cluster; null: its default")
    more: dict[str, str | int] = Field({}, description="further words of sbatch: {account: mine, constraint: a100}")


class RaySettings(Settings):
    """Every job as a task of a Ray cluster (pip install ray)."""

    place: ClassVar[str] = "launcher"
    address: str | None = Field(None, description="of the cluster, or auto; null: one is started on this machine")
    cpus: float = Field(1, gt=0, le=4096, description="of each job")
    gpus: float = Field(0, ge=0, le=64, description="of each job")
