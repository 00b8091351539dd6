"""What is checked before the first job: that the server takes our key, runs our libraries, and hosts our model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from nnsight.ndif import CRITICAL_PACKAGES

from entitrack.core.errors import UserError
from entitrack.models.family import Model
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.addresses import parse
from entitrack.runtime.ndif.hosted import Hosted, deployment_facts, deployments, environment_facts, is_up, packages
from entitrack.runtime.ndif.payload import key_parts, model_key
from entitrack.runtime.ndif.saying import one_line
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.wire import Wire, denied

_PUBLIC = "ndif.us"
_SHOWN = 40
_NAME = 80


def check_key(settings: Settings, wire: Wire, cost: Cost) -> bool:
    """Refuse to go on without a key where one is needed.

    Returns:
        Whether the server runs our code beside its models: it does if the key is tagged as trusted, or if it asks for
        none. A key that it does not know is refused with the first job.

    Raises:
        UserError: There is none, or the server does not know it.
    """
    host = parse(settings.address).host
    if not settings.api_key and (host == _PUBLIC or host.endswith("." + _PUBLIC)):
        raise denied(settings, 401, "the public service takes no job without one")
    page = wire.page("/whoami", cost) or {}
    tags = page.get("tags")
    return page.get("email") is None or (isinstance(tags, list) and "trusted" in tags)


def check_versions(settings: Settings, wire: Wire, cost: Cost) -> dict[str, str]:
    """Refuse a server that runs other versions of the libraries that interventions depend on.

    nnsight must be the same; torch and transformers must agree up to the last number.

    Returns:
        What the server says of its libraries, as far as results may depend on it.

    Raises:
        UserError: Naming every library that differs, here and there.
    """
    page = wire.page("/env", cost)
    try:
        there, facts = packages(page), environment_facts(page)
    except ValueError as error:
        raise wire.malformed("/env", str(error)) from error
    if not settings.check_versions:
        return facts
    named = sorted(CRITICAL_PACKAGES & there.keys())
    serious = {name: (version(name), there[name]) for name in named if not _agree(name, version(name), there[name])}
    if serious:
        pairs = [f"{name} {here} here and {other} there" for name, (here, other) in serious.items()]
        pins = " ".join(f"{name}=={_public(other)}" for name, (_, other) in serious.items())
        fix = f"install {pins}, or set backend.check_versions=false"
        raise UserError("backend.host", f"{settings.address} runs other versions: {', '.join(pairs)}", fix=fix)
    return facts


@dataclass(frozen=True)
class Listing:
    """What a server lists of models, which may be a minute old.

    Attributes:
        replicas: What it says of each deployment of the model that was asked for which takes jobs.
        names: The models that take jobs, as a reader knows them.
    """

    replicas: Sequence[Mapping[str, str]]
    names: Sequence[str]


def list_models(wire: Wire, cost: Cost, model: Model) -> Listing:
    """What a server lists.

    Args:
        wire: The way there.
        cost: Where to add what asking cost.
        model: The model that is looked for.
    """
    page = wire.page("/status", cost)
    try:
        up = [entry for entry in deployments(page) if is_up(entry)]
    except ValueError as error:
        raise wire.malformed("/status", str(error)) from error
    wanted = key_parts(model_key(model))
    replicas = [deployment_facts(entry) for entry in up if key_parts(entry["model_key"]) == wanted]
    return Listing(replicas, sorted({_describe(entry) for entry in up}))


def not_hosted(settings: Settings, listing: Listing, model: Model) -> UserError:
    """The complaint about a model that does not take jobs, though it was brought up if it was to be."""
    _, name, revision, task, _ = key_parts(model_key(model))
    problem, fix = f"{settings.address} does not host {name!r} (revision {revision}, {task})", ""
    if settings.deploy == "auto":
        problem, fix = f"{problem} {settings.status_age_s:g} s after it ran a job of it", "raise backend.status_age_s"
    known = listing.names[:_SHOWN] or ["nothing at the moment"]
    return UserError(f"model.members.{model.name}", problem, known, fix or "backend.deploy=auto has it brought up")


def one_of(settings: Settings, listing: Listing, model: Model, environment: Mapping[str, str]) -> Hosted:
    """What the server says of a model that takes jobs.

    Args:
        settings: Where.
        listing: What it lists.
        model: The model.
        environment: What `check_versions` returned.

    Raises:
        UserError: It hosts the model in several ways; with what the replicas differ in.
    """
    first, *others = listing.replicas
    differing = sorted({name for facts in others for name in {*first, *facts} if first.get(name) != facts.get(name)})
    if differing:
        name = key_parts(model_key(model))[1]
        problem = f"{settings.address} runs copies of {name!r} that differ ({', '.join(differing)})"
        fix = "nothing says which one a job is given; ask who runs the server"
        raise UserError(f"model.members.{model.name}", problem, fix=fix)
    return Hosted({**{f"model.{name}": text for name, text in first.items()}, **environment})


def _describe(entry: dict[str, Any]) -> str:
    """A hosted model as a reader knows it."""
    parts = key_parts(entry.get("model_key") or "")
    name, revision, task = entry.get("repo_id") or parts[1], entry.get("revision") or parts[2], parts[3]
    extra = ([] if revision == "main" else [f"revision {revision}"]) + ([] if task == "text-generation" else [task])
    return one_line(f"{name} ({', '.join(filter(None, extra))})" if any(extra) else name, _NAME)


def _agree(name: str, here: str, there: str) -> bool:
    """Whether two versions of a library go together."""
    ours, theirs = _public(here), _public(there)
    return ours == theirs if name == "nnsight" else ours.split(".")[:2] == theirs.split(".")[:2]


def _public(version_string: str) -> str:
    """A version without what the build adds to it (`2.9.0+cu128`)."""
    return version_string.partition("+")[0]
