"""Run circuits of every size, in every member of the family, under every ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.methods.ablated_model import AblatedModel
from entitrack.methods.circuit_curve.orders import Places, circuits_of, random_orders
from entitrack.methods.circuit_curve.plan import Plan, make_plan, member, ordered, prepared
from entitrack.methods.circuit_curve.settings import Settings
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.outcomes import MEASURED_AS, Outcomes

_UNIT = ("role", "layer", "head")


@dataclass(frozen=True)
class Answers:
    """One model's answers under one ablation.

    Attributes:
        roles: The roles, in the order of their positions.
        circuits: Of the model, the given circuit and the order's circuit of every size, `[circuit, prompt]`.
        places: The order.
        random_means: Mean of every metric, of circuits of random orders.
        random_places: These orders.
    """

    roles: tuple[str, ...]
    circuits: Outcomes
    places: Places
    random_means: Float[Tensor, "metric order size"]
    random_places: Int[Tensor, "order role layer head"]


def run(experiment: Experiment, settings: Settings) -> Result:
    """Run circuits of every size, in every member of the family, under every ablation.

    Returns:
        See `Outcomes`, `[ablation, model, circuit, prompt]` of the model, the given circuit and, by the number of
        their units, those of the order. `order` `[ablation, model, role, layer, head]`: place of every unit, from 0
        on. Of random orders, if there are any: `random`, mean F on the first of the prompts
        `[ablation, model, metric, order, size]`, and `random.order` `[order, role, layer, head]`.
    """
    plan = make_plan(experiment, settings)
    names, ablations = experiment.members(settings.models, "method.models"), list(dict.fromkeys(settings.ablations))
    answers: list[list[Answers]] = [[] for _ in ablations]
    for name in names:
        model = member(plan, name)
        intact: Outcomes | None = None  # the same under every ablation
        for ablation, of_models in zip(ablations, answers, strict=True):
            judged = prepared(plan, model, plan.prompts, ablation)
            intact = judged.intact() if intact is None else intact
            of_models.append(measure(plan, judged, ordered(plan, judged, ablation), intact))
    outcomes = Outcomes.stacked([Outcomes.stacked([one.circuits for one in of_models]) for of_models in answers])
    labels = {"ablation": tuple(ablations), "model": tuple(names)}
    circuits = {"circuit": ("model", "circuit", *map(str, plan.sizes))}
    measurements = outcomes.measurements(("ablation", "model", "circuit"), labels | circuits, prompt_set(plan.prompts))
    return Result(
        method="circuit_curve",
        facts=plan.facts(),
        measurements=measurements | of_orders(plan, answers, labels),
        words=experiment.words(outcomes.prediction),
    )


def measure(plan: Plan, judged: AblatedModel, places: Places, intact: Outcomes) -> Answers:
    """Circuits of an order, and of random ones, in one model under one ablation; `intact` is the model itself."""
    given = judged.live(plan.circuit.groups)
    outcomes = judged.run(torch.cat([given[None], circuits_of(places, plan.sizes)]))
    empty = outcomes.logit_difference[1 + plan.sizes.index(0)]
    outcomes = Outcomes.joined([Outcomes.stacked([intact.above(empty)]), outcomes.above(empty)])
    random = random_orders(judged, plan.settings.random_orders)
    shape = (len(MEASURED_AS), len(random), len(plan.sizes))
    if not len(random):
        return Answers(judged.roles, outcomes, places, torch.empty(shape), random)
    few = judged.first(plan.control_count)
    of_random = few.run(circuits_of(random, plan.sizes).flatten(0, 1)).above(empty[: plan.control_count])
    means = torch.stack([of_random.values(metric).double().mean(1) for metric in MEASURED_AS])
    return Answers(judged.roles, outcomes, places, means.reshape(shape), random)


def of_orders(
    plan: Plan, answers: Sequence[Sequence[Answers]], labels: Mapping[str, tuple[str, ...]]
) -> dict[str, Measurement]:
    """The orders that were made, and what random ones give; answers are by ablation and model."""
    first = answers[0][0]
    roles, axes = {"role": first.roles}, ("ablation", "model")
    places = torch.stack([torch.stack([one.places for one in of_models]) for of_models in answers])
    measurements = {"order": Measurement(places, (*axes, *_UNIT), {**labels, **roles})}
    if len(first.random_places):
        means = torch.stack([torch.stack([one.random_means for one in of_models]) for of_models in answers])
        of_means = {**labels, "metric": tuple(MEASURED_AS), "size": tuple(map(str, plan.sizes))}
        measurements["random"] = Measurement(means, (*axes, "metric", "order", "size"), of_means)
        measurements["random.order"] = Measurement(first.random_places, ("order", *_UNIT), roles)
    return measurements
