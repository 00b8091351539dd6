"""What a result was computed from, as plain values: models, circuit, prompts, device, code, command, time, cost."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from entitrack.cli.config import RunConfig
from entitrack.core.circuits import Circuit
from entitrack.core.masks import Masks
from entitrack.core.plain import plain
from entitrack.methods.experiment import Experiment
from entitrack.runtime.keys import code_digest
from entitrack.runtime.peak_memory import peak_memory
from entitrack.tasks.protocol import Prompt

LIBRARIES = ("entitrack", "torch", "transformers", "nnsight", "peft", "safetensors", "numpy", "hydra-core")


@dataclass(frozen=True)
class Invocation:
    """How a run was asked for.

    Attributes:
        command: The command line, without keys.
        overrides: The words that make up this run: of a sweep, those of the one job. Without keys.
        begun: When it began.
    """

    command: str
    overrides: tuple[str, ...]
    begun: datetime


def provenance(config: RunConfig, experiment: Experiment, invocation: Invocation, seconds: float) -> dict[str, Any]:
    """What a finished run used, and what it cost, as plain values."""
    models = experiment.family.loaded.values()
    peak = {f"peak_{name}_bytes": count for name, count in peak_memory().items()}
    cost = {**asdict(experiment.runner.cost), "seconds": seconds, **peak}
    used = {
        "cost": {name: round(value, 3) for name, value in cost.items()},
        "models": {model.name: model.identity.record() for model in models},
        **({"server": server} if (server := experiment.runner.backend.record()) else {}),
        "device": sorted({str(experiment.runner.backend.place(model)) for model in models}),
        **{
            kind: [_read(name, made) for name, made in read.items()]
            for kind, read in (("circuit", experiment.circuits), ("masks", experiment.masks))
        },
        "prompts": _prompts(experiment.task.prompts()),
        "command": invocation.command,
        "overrides": list(invocation.overrides),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "code": code_digest(),
        "date": invocation.begun.isoformat(timespec="seconds"),
        "config": config.plain,
    }
    everything: dict[str, Any] = plain(used, otherwise=str)
    return everything


def digest_of(value: Any) -> str:
    """A digest of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(name: str, made: Circuit | Masks) -> dict[str, Any]:
    """A circuit or masks: what they were called, what they were found on, and their heads, which the digest is of."""
    groups = made.plain_groups()
    return {"file": name, "model": made.found_on.get("model"), "digest": digest_of(groups), "groups": groups}


def _prompts(prompts: Iterable[Prompt]) -> dict[str, Any]:
    """How many prompts the task has, and a digest of their texts and answers in order."""
    texts = [[prompt.text, prompt.answer] for prompt in prompts]
    return {"count": len(texts), "digest": digest_of(texts)}
