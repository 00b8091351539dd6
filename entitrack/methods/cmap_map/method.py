"""The gain of every component at every role, to first order; and of the heads that promise most, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.result import Result
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.methods.cmap_map.settings import Settings
from entitrack.methods.cmap_map.trace import first_order_gains
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set, role_positions
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import LAST

EXACT = "exact"
"""Name of what was measured by moving heads."""

AXES = {4: ("role", "layer", "head", PROMPT), 3: ("role", "layer", PROMPT)}
"""Number of axes -> their names."""

Patches = Sequence[dict[str, Any]]
"""Of one batch: every site, and what it has in the donor."""


def run(experiment: Experiment, settings: Settings) -> Result:
    """Read the donor, take slopes in the recipient, and move the most promising heads one by one.

    Returns:
        By component, the gain in log p of the right answer to first order, in nats: `z` `[role, layer, head, prompt]`,
        others `[role, layer, prompt]`; and `exact` `[role, layer, head, prompt]`, not a number where z of the head was
        not moved.
    """
    base = experiment.member(settings.recipient, "method.recipient")
    donor = experiment.donor_of(base, settings.components)
    roles = settings.roles or list(dict.fromkeys(stage.role for stage in experiment.task.stages)) or [LAST]
    batches = experiment.encoded(experiment.task.prompts())
    patches = _read_donor(experiment, base, donor, batches, settings.components, roles)
    gains = _slopes(experiment, base, donor, batches, patches)
    measured = _by_component(gains, settings.components, len(roles), base.anatomy["n_layers"])
    if "z" in settings.components and settings.exact:
        measured[EXACT] = _exact(experiment, base, batches, patches, measured["z"], settings)
    on, labels = prompt_set(experiment.task.prompts()), {"role": tuple(roles)}
    return Result(
        method="cmap_map",
        facts={"base": base.name, "donor": donor.name, "components": list(settings.components), "top": settings.top},
        measurements={name: Measurement(values, AXES[values.dim()], labels, on) for name, values in measured.items()},
    )


def _read_donor(
    experiment: Experiment,
    base: Model,
    donor: Model,
    batches: Sequence[EncodedBatch],
    components: Sequence[str],
    roles: Sequence[str],
) -> list[Patches]:
    """What every component of the recipient could become, batch by batch."""
    asked: list[dict[str, Any]] = [
        {"prompts": prompt_inputs(batch), "sites": _sites(base, components, roles, batch)} for batch in batches
    ]
    read = experiment.sessions(donor, read_sites, asked, f"reading {donor.name}")
    return [
        [{**site, "values": values} for site, values in zip(given["sites"], answered["values"], strict=True)]
        for given, answered in zip(asked, read, strict=True)
    ]


def _slopes(
    experiment: Experiment, base: Model, donor: Model, batches: Sequence[EncodedBatch], patches: Sequence[Patches]
) -> list[Float[Tensor, "_ prompt"]]:
    """First-order gains of every site, by head where it has heads."""
    asked = [{"prompts": prompt_inputs(batch), "patches": here} for batch, here in zip(batches, patches, strict=True)]
    outputs = list(experiment.sessions(base, first_order_gains, asked, f"slopes {donor.name} -> {base.name}"))
    return [torch.cat([output["gain"][number] for output in outputs]).T for number in range(len(patches[0]))]


def _sites(base: Model, components: Sequence[str], roles: Sequence[str], batch: EncodedBatch) -> list[dict[str, Any]]:
    """Every component of every layer at every role; z of all heads together."""
    heads: dict[str, Any] = {"heads": list(range(base.anatomy["n_heads"]))}
    return [
        {
            "component": component,
            "layer": layer,
            "position": role_positions(batch, role, "method.roles"),
            **(heads if component == "z" else {}),
        }
        for role in roles
        for layer in range(base.anatomy["n_layers"])
        for component in components
    ]


def _by_component(
    gains: Sequence[Float[Tensor, "part prompt"]], components: Sequence[str], roles: int, layers: int
) -> dict[str, Float[Tensor, "role layer ... prompt"]]:
    """Gains of `_sites` by component."""
    found = {}
    for number, component in enumerate(components):
        values = torch.stack(list(gains[number :: len(components)])).unflatten(0, (roles, layers))
        found[component] = values if component == "z" else values[:, :, 0]
    return found


def _exact(
    experiment: Experiment,
    base: Model,
    batches: Sequence[EncodedBatch],
    patches: Sequence[Patches],
    first_order: Float[Tensor, "role layer head prompt"],
    settings: Settings,
) -> Float[Tensor, "role layer head prompt"]:
    """What log p of the right answer gains when z of one head at one role is the donor's, of the most promising."""
    best = first_order.mean(-1).flatten().argsort(descending=True)[: settings.exact]
    places = [tuple(index.tolist()) for index in torch.stack(torch.unravel_index(best, first_order.shape[:3]), 1)]
    layers, requests = base.anatomy["n_layers"], []
    for batch, here in zip(batches, patches, strict=True):
        z = [patch for patch in here if patch["component"] == "z"]
        alone = []
        for role, layer, head in places:
            patch = z[role * layers + layer]
            alone.append({**patch, "heads": [head], "values": patch["values"][:, [head]]})
        variants = [[], *([number] for number in range(len(alone)))]
        requests.append({"prompts": prompt_inputs(batch), "patches": alone, "variants": variants})
    budget, description = {"gib": experiment.gib}, f"single heads into {base.name}"
    answered = experiment.sessions(base, answer_patched, requests, description, settings=budget)
    log_p = torch.cat([answers["probability"].double().log() for answers in answered], 1)
    exact = torch.full_like(first_order, torch.nan)
    for place, gained in zip(places, log_p[1:] - log_p[0], strict=True):
        exact[place] = gained.to(exact)
    return exact
