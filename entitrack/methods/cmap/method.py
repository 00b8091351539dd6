"""Cross-model activation patching: which group, from the donor, makes the base as good? (paper, section 6).

Output form: z of a group's heads at the group's role moves. MLPs, embeddings, unembedding, every other head and every
other position are the base's own and are recomputed.

Input form: q of the heads at the role, or k and v at the positions before it, move instead, and every other z outside
the last token is held at the base's own value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.circuits import Circuit, Group, count_heads
from entitrack.core.measurement import stacked
from entitrack.core.result import Result
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.methods.cmap.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set, role_positions
from entitrack.models.anatomy import kv_groups
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch

FULL = "full circuit"


def run(experiment: Experiment, settings: Settings) -> Result:
    """Transplant the donor's heads into the base, group by group and all together.

    Returns:
        `correct` and `prediction` `[model, prompt]`: the base, the donor, and the base with each transplant.
    """
    base = experiment.base()
    donor = experiment.donor_of("z" if settings.form == "output" else "".join(settings.components))
    circuit = experiment.circuit(base)
    circuit.check(donor.anatomy, experiment.roles)
    chosen = circuit.choose(settings.groups, "method.groups")
    transplants = {FULL: circuit.groups, **{group.name: (group,) for group in chosen}}
    components = settings.components if settings.form == "input" else [""]
    named = {f"{name} {moved}".strip(): (groups, moved) for name, groups in transplants.items() for moved in components}
    transplant = {"output": transplant_outputs, "input": transplant_inputs}[settings.form]
    prompts = experiment.task.prompts()
    batches = experiment.encoded(prompts)
    predictions = transplant(experiment, base, donor, circuit, list(named.values()), batches)
    by_model = dict(zip(("donor", "base", *named), predictions, strict=True))
    prediction = stacked({"base": by_model["base"], **by_model}, "model", prompt_set(prompts))
    answers = torch.cat([batch.answers for batch in batches])
    return Result(
        method="cmap",
        facts={
            "base": base.name,
            "donor": donor.name,
            "form": settings.form,
            "heads": {name: count_heads(groups) for name, (groups, _) in named.items()},
        },
        measurements={"correct": replace(prediction, values=prediction.values == answers), "prediction": prediction},
        words=experiment.words(predictions),
    )


Transplant = tuple[Sequence[Group], str]
"""The groups that move, and which of their components (input form)."""


def transplant_outputs(
    experiment: Experiment,
    base: Model,
    donor: Model,
    circuit: Circuit,
    transplants: Sequence[Transplant],
    batches: Sequence[EncodedBatch],
) -> Int[Tensor, "row prompt"]:
    """Answers of the donor, the base, and the base with the donor's z: a session in each model for each batch."""
    found = [group_sites(circuit, batch) for batch in batches]
    asked = [
        {"prompts": prompt_inputs(batch), "sites": sites} for batch, (sites, _) in zip(batches, found, strict=True)
    ]
    own: list[Tensor] = []

    def filled() -> Iterator[dict[str, Any]]:
        """What the base is given for each batch, as soon as the donor has answered it."""
        given = experiment.runner.map(donor, read_sites, asked)
        for question, (sites, numbers), read in zip(asked, found, given, strict=True):
            own.append(read["prediction"])
            chosen = [sorted(n for group in groups for n in numbers[group.name]) for groups, _ in transplants]
            moved = [{**site, "values": values} for site, values in zip(sites, read["values"], strict=True)]
            yield {"prompts": question["prompts"], "patches": moved, "variants": [[], *chosen]}

    description = f"cmap {donor.name} -> {base.name}"
    taken = list(experiment.sessions(base, answer_patched, filled(), description, len(batches)))
    return torch.cat([torch.cat(own)[None], torch.cat([answers["prediction"] for answers in taken], 1)])


def transplant_inputs(
    experiment: Experiment,
    base: Model,
    donor: Model,
    circuit: Circuit,
    transplants: Sequence[Transplant],
    batches: Sequence[EncodedBatch],
) -> Int[Tensor, "row prompt"]:
    """Answers of the donor, the base, and the base with the donor's q, k or v."""
    found = [group_sites(circuit, batch) for batch in batches]
    inputs = [[input_sites(base, site) for site in sites] for sites, _ in found]
    asked: list[dict[str, Any]] = [
        {"prompts": prompt_inputs(batch), "sites": [site for entry in sites for site in entry.values()]}
        for batch, sites in zip(batches, inputs, strict=True)
    ]
    own: list[Tensor] = []

    def filled() -> Iterator[dict[str, Any]]:
        """What the base is given for each batch, as soon as the donor has answered it."""
        given = experiment.runner.map(donor, read_sites, asked)
        for question, (sites, numbers), read in zip(asked, found, given, strict=True):
            own.append(read["prediction"])
            chosen = [sorted(n for group in groups for n in numbers[group.name]) for groups, _ in transplants]
            moved = [{**site, "values": values} for site, values in zip(question["sites"], read["values"], strict=True)]
            variants = [
                [3 * n + "qkv".index(name) for n in entry for name in components]
                for entry, (_, components) in zip(chosen, transplants, strict=True)
            ]
            live = [[sites[n] for n in entry] for entry in chosen]
            yield {"prompts": question["prompts"], "patches": moved, "variants": [[], *variants], "live": [[], *live]}

    description = f"cmap {donor.name} -> {base.name}"
    taken = list(experiment.sessions(base, answer_patched, filled(), description, len(batches)))
    return torch.cat([torch.cat(own)[None], torch.cat([answers["prediction"] for answers in taken], 1)])


def input_sites(base: Model, site: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the heads of a site read: q at the role, and before it the k and v of the KV groups that they share."""
    grouped = [head for _, head in kv_groups(base.anatomy, [(site["layer"], head) for head in site["heads"]])]
    before = {"heads": grouped, "before": True}
    return {"q": {**site, "component": "q"}, **{name: {**site, **before, "component": name} for name in "kv"}}


def group_sites(circuit: Circuit, batch: EncodedBatch) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """The heads of a circuit by layer and role, as interventions take them, and which of them each group has.

    Returns:
        Sites of z in ascending order of layers, and group name -> numbers of its sites.
    """
    listed: list[tuple[str, dict[str, Any]]] = []
    for group in circuit.groups:
        position = role_positions(batch, group.role, f"circuit, group {group.name!r}")
        for layer in sorted({layer for layer, _ in group.heads}):
            heads = [head for where, head in group.heads if where == layer]
            site = {"component": "z", "layer": layer, "heads": heads, "position": position}
            listed.append((group.name, site))
    listed.sort(key=lambda entry: entry[1]["layer"])
    numbers = {group.name: [n for n, (name, _) in enumerate(listed) if name == group.name] for group in circuit.groups}
    return [site for _, site in listed], numbers
