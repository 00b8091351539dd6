"""What is checked before the first job: that the server takes our key, runs our libraries, and hosts our model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entitrack.core.errors import UserError
from entitrack.models.family import Model
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.addresses import parse
from entitrack.runtime.ndif.hosted import Hosted, deployment_facts, deployments, environment_facts, is_up, packages
from entitrack.runtime.ndif.payload import key_parts, model_key
from entitrack.runtime.ndif.saying import one_line
from entitrack.runtime.ndif.settings import Settings
from entitrack.runtime.ndif.versions import check_differences, differences
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
    """Refuse a server that runs versions with which jobs of ours cannot run, and say which others differ.

    See `entitrack.runtime.ndif.versions`.

    Returns:
        What the server says of its libraries, as far as results may depend on it.

    Raises:
        UserError: Naming everything that differs too much, here and there, and what to install.
    """
    page = wire.page("/env", cost)
    try:
        there, facts = packages(page), environment_facts(page)
    except ValueError as error:
        raise wire.malformed("/env", str(error)) from error
    if settings.check_versions:
        differing = differences({**there, **{name: facts[name] for name in ("python",) if name in facts}})
        check_differences(settings.address, differing)
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
