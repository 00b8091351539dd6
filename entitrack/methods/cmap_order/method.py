"""Order the units of a circuit on some prompts, and judge the order on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.parts import CONTEXTS
from entitrack.core.result import Result
from entitrack.methods.cmap_order.greedy import Search, Units, greedy
from entitrack.methods.cmap_order.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.transplanted import (
    Answers,
    answers_with,
    heads_of,
    random_heads,
    read_heads,
    roles_of,
    shape_of,
    units_of,
)
from entitrack.models.family import Model

BASE, DONOR, WHOLE, ADDED, ALONE, LEFT_OUT = KINDS = ("base", "donor", "whole", "added", "alone", "left out")
"""Of `correct`: the recipient, the donor, all units, a unit on top of those before, by itself, and all units but it."""


@dataclass(frozen=True)
class Pair:
    """What moves, and between which models.

    Attributes:
        base: What heads are put into.
        donor: What they are taken from.
        roles: Where they are.
        names: Of the units.
        units: Their heads.
    """

    base: Model
    donor: Model
    roles: Sequence[str]
    names: Sequence[str]
    units: Units


def run(experiment: Experiment, settings: Settings) -> Result:
    """Find the order, and measure what each unit adds to those before it.

    Returns:
        `correct` `[kind, unit, prompt]`, units in their order: see `KINDS`; `search.accuracy` and `search.probability`
        `[unit, candidate]`: with each candidate in the place of that unit, on the prompts that the order was found on;
        `control.*`: see `_controls`.
    """
    searched = experiment.on_search()
    base = searched.member(settings.recipient, "method.recipient", experiment.task.prompts())
    for place in (searched, experiment):
        donor = place.donor_of(base, ["z"])
    circuit = experiment.circuit(base)
    circuit.check(donor.anatomy, experiment.roles)
    names, units, roles, twins = _units(circuit, settings, shape_of(base))
    pair = Pair(base, donor, roles, names, units)
    search = _search(searched, pair, min(settings.steps or len(names), len(names)))
    chain = torch.stack([units[search.order[: step + 1]].any(0) for step in range(len(search.order))])
    ordered = tuple(names[number] for number in search.order)
    measurements = {"correct": _judge(experiment, pair, search.order, chain)}
    for name, tried in (("accuracy", search.accuracy), ("probability", search.probability)):
        labels = {"unit": ordered, "candidate": tuple(names)}
        measurements[f"search.{name}"] = Measurement(tried, ("unit", "candidate"), labels)
    if settings.controls:
        measurements |= _controls(experiment, pair, chain, ordered, settings)
    origin = experiment.origin("the order", {CONTEXTS: searched.contexts()})
    facts = {
        "base": base.name,
        "family_base": experiment.family.base,
        "donor": donor.name,
        "units": settings.units,
        "heads": [int(heads.sum()) for heads in chain],
        "whole": {"units": len(names), "heads": int(units.any(0).sum())},
        "searched": {"prompts": len(searched.task.prompts()), **asdict(origin)},
        "towards": search.towards,
        "twins": twins,
        "empty": [group.name for group in circuit.choose(settings.groups, "method.groups") if not group.heads],
    }
    return Result(method="cmap_order", facts=facts, measurements=measurements)


def _units(
    circuit: Circuit, settings: Settings, shape: tuple[int, int]
) -> tuple[list[str], Units, list[str], list[list[str]]]:
    """Names of the units, their heads, the roles, and the units that are left out since another has the same heads.

    Raises:
        UserError: No group has heads.
    """
    groups = [group for group in circuit.choose(settings.groups, "method.groups") if group.heads]
    if not groups:
        known = [group.name for group in circuit.groups if group.heads]
        raise UserError("method.groups", "there are no heads to order", known, "choose a circuit or groups with heads")
    roles = roles_of(groups)
    every = {name: heads_of([part], roles, shape) for g in groups for name, part in units_of(g, settings.units).items()}
    distinct: dict[str, Tensor] = {}
    twins = []
    for name, heads in every.items():
        twin = next((other for other, same in distinct.items() if torch.equal(same, heads)), None)
        if twin is None:
            distinct[name] = heads
        else:
            twins.append([name, twin])
    return list(distinct), torch.stack(list(distinct.values())), roles, twins


def _search(searched: Experiment, pair: Pair, steps: int) -> Search:
    """The greedy order on the prompts to choose on; the donor is read once."""
    batches = searched.encoded(searched.task.prompts())
    used = pair.units.any(0)
    read = list(read_heads(searched, pair.donor, batches, pair.roles, used))

    def with_sets(sets: Bool[Tensor, "set role layer head"]) -> Answers:
        description = f"cmap_order {pair.donor.name} -> {pair.base.name}, search"
        return answers_with(searched, pair.base, read, used, sets, description, len(batches))

    own = with_sets(torch.zeros_like(pair.units[:1]))  # a set without heads is the recipient itself
    right = torch.cat([batch.own == batch.prompts["answers"] for batch in read])
    donor = Answers(right[None], torch.cat([batch.probability for batch in read])[None])
    return greedy(pair.units, with_sets, steps, -1 if donor.worth(0) < own.worth(0) else 1)


def _judge(
    experiment: Experiment, pair: Pair, order: Sequence[int], chain: Bool[Tensor, "step role layer head"]
) -> Measurement:
    """What is answered along the chain, with each unit alone, and with all units but it: `[kind, unit, prompt]`."""
    prompts, units = experiment.task.prompts(), pair.units
    batches, used = experiment.encoded(prompts), units.any(0)
    read = list(read_heads(experiment, pair.donor, batches, pair.roles, used))
    others = [[other for other in range(len(units)) if other != number] for number in order]
    left_out = torch.stack([units[rest].any(0) for rest in others])
    ends = torch.stack([torch.zeros_like(units[0]), used])
    sets = torch.cat([ends, chain, units[list(order)], left_out])
    description = f"cmap_order {pair.donor.name} -> {pair.base.name}"
    right = answers_with(experiment, pair.base, read, used, sets, description, len(batches)).correct
    donor = torch.cat([batch.own == batch.prompts["answers"] for batch in read])
    same = [row.expand(len(order), -1) for row in (right[0], donor, right[1])]
    values = torch.stack([*same, *right[2:].split(len(order))])
    labels = {"kind": KINDS, "unit": tuple(pair.names[number] for number in order)}
    return Measurement(values, ("kind", "unit", PROMPT), labels, prompt_set(prompts))


def _controls(
    experiment: Experiment,
    pair: Pair,
    chain: Bool[Tensor, "step role layer head"],
    ordered: tuple[str, ...],
    settings: Settings,
) -> dict[str, Measurement]:
    """The chain beside random heads that are added in its steps.

    Returns:
        `control.own` `[unit, prompt]`: whether the answers with the chain are right; `control.correct` `[unit, draw,
        prompt]`: with random heads; `control.gain` `[unit, prompt]`: the one minus the mean of the others;
        `control.heads` `[unit, draw, role, layer, head]`: which they are.
    """
    prompts = experiment.task.prompts()[: settings.control_prompts]
    batches = experiment.encoded(prompts)
    drawn = random_heads(chain, settings.controls, experiment.seed).transpose(0, 1)
    sets = torch.cat([chain, drawn.flatten(0, 1)])
    used = sets.any(0)
    read = read_heads(experiment, pair.donor, batches, pair.roles, used)
    description = f"random heads {pair.donor.name} -> {pair.base.name}"
    right = answers_with(experiment, pair.base, read, used, sets, description, len(batches)).correct
    own, correct = right[: len(chain)], right[len(chain) :].unflatten(0, drawn.shape[:2])
    on, labels = prompt_set(prompts), {"unit": ordered}
    heads_axes, by_role = ("unit", "draw", "role", "layer", "head"), {**labels, "role": tuple(pair.roles)}
    return {
        "control.own": Measurement(own, ("unit", PROMPT), labels, on),
        "control.correct": Measurement(correct, ("unit", "draw", PROMPT), labels, on),
        "control.gain": Measurement(own.double() - correct.double().mean(1), ("unit", PROMPT), labels, on),
        "control.shared": Measurement((drawn & chain[:, None]).flatten(2).sum(2), ("unit", "draw"), labels),
        "control.heads": Measurement(drawn.contiguous(), heads_axes, by_role),
    }
