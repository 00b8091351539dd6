"""What is checked before the first job: that the server takes our key, runs our libraries, and hosts our model."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from nnsight.ndif import CRITICAL_PACKAGES, EnvComparison

from entitrack.backends import Cost
from entitrack.errors import UserError
from entitrack.models.family import Model
from entitrack.ndif.payload import key_parts, model_key
from entitrack.ndif.settings import Settings
from entitrack.ndif.wire import Wire, denied

_PUBLIC = "ndif.us"
_UP = ("HOT", "WARM")
_SHOWN = 40


def check_key(settings: Settings, wire: Wire, cost: Cost) -> None:
    """Refuse to go on without a key where one is needed.

    Raises:
        UserError: There is none, or the server does not know it.
    """
    host = urlsplit(settings.address).hostname or ""
    if not settings.api_key and (host == _PUBLIC or host.endswith("." + _PUBLIC)):
        raise denied(settings, "the public service takes no job without one")
    wire.json("/whoami", cost)


def check_versions(settings: Settings, wire: Wire, cost: Cost) -> None:
    """Refuse a server that runs other versions of the libraries that interventions depend on.

    nnsight must be the same; torch and transformers must agree up to the last number.

    Raises:
        UserError: Naming every library that differs, here and there.
    """
    remote = wire.json("/env", cost)
    if not settings.check_versions or not remote:
        return
    here = {"python_version": sys.version, "packages": {name: version(name) for name in CRITICAL_PACKAGES}}
    differing = EnvComparison(here, remote).critical_mismatches
    serious = {name: entry for name, entry in differing.items() if not _agree(name, entry["local"], entry["remote"])}
    if serious:
        pairs = [f"{name} {entry['local']} here and {entry['remote']} there" for name, entry in sorted(serious.items())]
        pins = " ".join(f"{name}=={_public(entry['remote'])}" for name, entry in sorted(serious.items()))
        fix = f"install {pins}, or set backend.check_versions=false"
        raise UserError("backend.host", f"{settings.address} runs other versions: {', '.join(pairs)}", fix=fix)


def check_hosted(settings: Settings, wire: Wire, cost: Cost, model: Model) -> None:
    """Refuse a model that the server does not host.

    Raises:
        UserError: With what is hosted.
    """
    status = wire.json("/status", cost) or {}
    hosted = [entry for entry in status.get("deployments", {}).values() if entry.get("deployment_level", "HOT") in _UP]
    wanted = key_parts(model_key(model))
    if any(key_parts(entry.get("model_key") or "") == wanted for entry in hosted):
        return
    names = sorted({_describe(entry) for entry in hosted})
    problem = f"{settings.address} does not host {wanted[1]!r} (revision {wanted[2]}, {wanted[3]})"
    known = names[:_SHOWN] or ["nothing at the moment"]
    raise UserError(f"model.members.{model.name}", problem, known)


def _describe(entry: dict[str, Any]) -> str:
    """A hosted model as a reader knows it."""
    parts = key_parts(entry.get("model_key") or "")
    name, revision, task = entry.get("repo_id") or parts[1], entry.get("revision") or parts[2], parts[3]
    extra = ([] if revision == "main" else [f"revision {revision}"]) + ([] if task == "text-generation" else [task])
    return f"{name} ({', '.join(filter(None, extra))})" if any(extra) else name


def _agree(name: str, here: str, there: str) -> bool:
    """Whether two versions of a library go together."""
    ours, theirs = _public(here), _public(there)
    return ours == theirs if name == "nnsight" else ours.split(".")[:2] == theirs.split(".")[:2]


def _public(version_string: str) -> str:
    """A version without what the build adds to it (`2.9.0+cu128`)."""
    return version_string.partition("+")[0]
