"""What a server says it runs: the facts that tell its models apart, as far as it tells them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from entitrack.runtime.ndif.saying import one_line

UP = "HOT"
"""Level of deployment of models that take jobs at once; of others a server tells less (no precision, for one)."""

LIBRARIES = ("accelerate", "bitsandbytes", "flash_attn", "nnsight", "peft", "torch", "transformers", "triton")
"""Libraries whose versions may change a result."""

_FACTS = (
    "model_key",
    "repo_id",
    "revision",
    "commit",
    "commit_hash",
    "sha",
    "title",
    "task",
    "dtype",
    "quantization",
    "config",
    "n_params",
    "trusted",
    "trust_remote_code",
    "actor_class",
)
"""What belongs to a deployment for as long as it is the same one; state, level, load, replica and schedule do not."""

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")


@dataclass(frozen=True)
class Hosted:
    """A model as a server runs it.

    Attributes:
        facts: Name -> what the server says, as text: of the deployment, of the libraries and of Python.
    """

    facts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Changes when any of the facts does."""
        return hashlib.sha256(json.dumps(sorted(self.facts.items())).encode()).hexdigest()[:16]

    @property
    def precision(self) -> str | None:
        """What the weights are held in; None if the server does not say."""
        said = json.loads(self.facts.get("model.dtype", "null"))
        return one_line(said, 20) if isinstance(said, str) else None

    def record(self) -> dict[str, str]:
        """The facts as they are recorded: long ones (a whole configuration) by their digest."""
        return {name: _short(text) for name, text in self.facts.items()}


def deployment_facts(entry: Mapping[str, Any]) -> dict[str, str]:
    """The lasting facts about one deployment of `/status`; what the server does not tell is not there."""
    return {name: json.dumps(entry[name], sort_keys=True) for name in _FACTS if entry.get(name) is not None}


def environment_facts(page: Mapping[str, Any] | None) -> dict[str, str]:
    """The facts about the libraries of `/env`."""
    facts = {name: text for name, text in packages(page).items() if name in LIBRARIES}
    python = (page or {}).get("python_version")
    return {**facts, "python": python.split()[0]} if isinstance(python, str) and python.strip() else facts


def deployments(page: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The deployments of `/status`, of whatever level, that are of a known model.

    Raises:
        ValueError: The page is not what the protocol says.
    """
    listed = (page or {}).get("deployments", {})
    if not isinstance(listed, dict) or not all(isinstance(entry, dict) for entry in listed.values()):
        raise ValueError("its deployments are no table")
    for entry in listed.values():
        for name in ("model_key", "repo_id", "revision", "deployment_level"):
            if not isinstance(entry.get(name), (str, type(None))):
                raise ValueError(f"the {name} of a deployment is no text")
    return [entry for entry in listed.values() if entry.get("model_key")]


def is_up(entry: Mapping[str, Any]) -> bool:
    """Whether a deployment takes jobs at once."""
    return entry.get("deployment_level") in (None, UP)


def packages(page: Mapping[str, Any] | None) -> dict[str, str]:
    """The libraries of `/env` and their versions.

    Raises:
        ValueError: The page is not what the protocol says.
    """
    listed = (page or {}).get("packages", {})
    if not isinstance(listed, dict):
        raise ValueError("its packages are no table")
    named = {name: listed[name] for name in LIBRARIES if listed.get(name) is not None}
    wrong = [name for name, text in named.items() if not isinstance(text, str) or not _VERSION.fullmatch(text)]
    if wrong:
        raise ValueError(f"the version of {wrong[0]} is none")
    return named


def _short(text: str) -> str:
    shown = one_line(text, 120)
    return shown if shown == text else f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
