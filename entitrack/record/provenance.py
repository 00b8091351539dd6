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
from entitrack.core.plain import plain
from entitrack.methods.experiment import Experiment
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
    cost = {**asdict(experiment.runner.cost), "seconds": seconds}
    used = {
        "cost": {name: round(value, 3) for name, value in cost.items()},
        "models": {model.name: model.identity.record() for model in models},
        "device": sorted({str(experiment.runner.backend.place(model)) for model in models}),
        "circuit": [_circuit(name, circuit) for name, circuit in experiment.circuits.items()],
        "prompts": _prompts(experiment.task.prompts()),
        "command": invocation.command,
        "overrides": list(invocation.overrides),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "date": invocation.begun.isoformat(timespec="seconds"),
        "config": config.plain,
    }
    everything: dict[str, Any] = plain(used, otherwise=str)
    return everything


def digest_of(value: Any) -> str:
    """A digest of plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _circuit(name: str, circuit: Circuit) -> dict[str, Any]:
    """A circuit: what it was called, and its heads, which the digest is of."""
    groups = [
        {"name": group.name, "role": group.role, "heads": [list(head) for head in group.heads]}
        for group in circuit.groups
    ]
    return {"file": name, "digest": digest_of(groups), "groups": groups}


def _prompts(prompts: Iterable[Prompt]) -> dict[str, Any]:
    """How many prompts the task has, and a digest of their texts and answers in order."""
    texts = [[prompt.text, prompt.answer] for prompt in prompts]
    return {"count": len(texts), "digest": digest_of(texts)}
