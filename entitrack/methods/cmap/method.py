"""Transplant the donor's activations into the base, group by group and all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.circuits import Circuit, count_heads
from entitrack.core.errors import UserError
from entitrack.core.measurement import stacked
from entitrack.core.quirks import Quirk
from entitrack.core.result import Result
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.methods.cmap.brackets import brackets
from entitrack.methods.cmap.controls import all_heads, controls
from entitrack.methods.cmap.settings import Settings
from entitrack.methods.cmap.transplants import Plan, Transplant, plan_inputs, plan_outputs
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set
from entitrack.methods.transplanted import units_of
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch

FULL = "full circuit"


def run(experiment: Experiment, settings: Settings) -> Result:
    """Transplant the donor's activations into the recipient, group by group and all together.

    Returns:
        `correct` and `prediction` `[model, prompt]`: `base`, the recipient; the donor; and the recipient with each
        transplant. `bracket` `[model, prompt]`: see `brackets`; and see `controls` for what stands beside them.
    """
    base = experiment.member(settings.recipient, "method.recipient")
    donor = experiment.donor_of(base, settings.parts)
    circuit = _circuit(experiment, settings, base, donor)
    circuit.check(donor.anatomy, experiment.roles)
    transplants = _transplants(circuit, settings)
    prompts = experiment.task.prompts()
    batches = experiment.encoded(prompts)

    def plan(batch: EncodedBatch) -> Plan:
        if settings.form == "output":
            return plan_outputs(batch, transplants)
        return plan_inputs(base, batch, transplants, experiment.quirks)

    predictions = transplant(experiment, base, donor, batches, [plan(batch) for batch in batches])
    rows = dict(zip(("donor", "base", *(one.name for one in transplants)), predictions, strict=True))
    prediction = stacked({"base": rows["base"], **rows}, "model", prompt_set(prompts))
    answers = torch.cat([batch.answers for batch in batches])
    measurements = {"correct": replace(prediction, values=prediction.values == answers), "prediction": prediction}
    if settings.controls:
        of_heads = [one for one in transplants if one.component == "z"]
        measurements |= controls(experiment, base, donor, of_heads, settings.controls, settings.control_prompts)
        heads = all_heads(measurements)
        measurements |= brackets(experiment, base, donor, plan, heads, settings.control_prompts)
    return Result(
        method="cmap",
        facts={
            "base": base.name,
            "family_base": experiment.family.base,
            "donor": donor.name,
            "form": settings.form,
            "components": list(settings.moved),
            "masks": settings.masks,
            "quirks": sorted(experiment.quirks),
            "heads": {one.name: count_heads(one.groups) for one in transplants},
        },
        measurements=measurements,
        words=experiment.words(predictions),
    )


def _circuit(experiment: Experiment, settings: Settings, base: Model, donor: Model) -> Circuit:
    """The circuit whose heads move: the one the run is about, narrowed by masks; published, the donor's own.

    Raises:
        UserError: Masks are missing where the published procedure needs them, or they are not the circuit's.
    """
    published = Quirk.DONOR_CIRCUIT in experiment.quirks
    if published and settings.masks is None:
        fix = "pass the masks.json of a method=dcm run on the donor's circuit"
        raise UserError("method.masks", "the published heads are narrowed by masks", fix=fix)
    circuit = experiment.circuit(base, found_on=donor.name if published else None)
    if settings.masks is None:
        return circuit
    masks = experiment.read_masks(settings.masks)
    for group in settings.narrow:
        circuit.group(group, f"method.narrow.{group}")
    groups = [
        masks.narrow(group, settings.narrow[group.name], settings.masks) if group.name in settings.narrow else group
        for group in circuit.groups
    ]
    return replace(circuit, groups=tuple(groups))


def _transplants(circuit: Circuit, settings: Settings) -> list[Transplant]:
    """The whole circuit and each group, with each of the components that move; z and qkv need not be named."""
    chosen = circuit.choose(settings.groups, "method.groups")
    parts = {group: units_of(group, settings.units) for group in circuit.groups}
    together = {FULL: tuple(part for by_name in parts.values() for part in by_name.values())}
    together |= {name: (part,) for group in chosen for name, part in parts[group].items()}
    return [
        Transplant(name if component == "z" else f"{name} {component}", groups, component)
        for name, groups in together.items()
        for component in settings.moved
    ]


def transplant(
    experiment: Experiment, base: Model, donor: Model, batches: Sequence[EncodedBatch], plans: Sequence[Plan]
) -> Int[Tensor, "row prompt"]:
    """Answers of the donor, the base, and the base with each transplant: a session in each model for each batch."""
    prompts = [prompt_inputs(batch) for batch in batches]
    asked = [{"prompts": given, "sites": plan.sites} for given, plan in zip(prompts, plans, strict=True)]
    own: list[Tensor] = []

    def filled() -> Iterator[dict[str, Any]]:
        """What the base is given for each batch, as soon as the donor has answered it."""
        answered = experiment.runner.map(donor, read_sites, asked)
        for given, plan, read in zip(prompts, plans, answered, strict=True):
            own.append(read["prediction"])
            patches = [{**site, "values": values} for site, values in zip(plan.sites, read["values"], strict=True)]
            live = {} if plan.live is None else {"live": [[], *plan.live]}
            yield {"prompts": given, "patches": patches, "variants": [[], *plan.variants], **live}

    description = f"cmap {donor.name} -> {base.name}"
    taken = list(
        experiment.sessions(base, answer_patched, filled(), description, len(batches), {"gib": experiment.gib})
    )
    return torch.cat([torch.cat(own)[None], torch.cat([answers["prediction"] for answers in taken], 1)])
