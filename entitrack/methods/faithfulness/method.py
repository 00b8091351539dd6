"""Run the circuit, the whole model and random circuits, on every model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.measurement import Measurement
from entitrack.core.quirks import Quirk, Quirks
from entitrack.core.result import Result
from entitrack.methods.ablated_model import AblatedModel, prepare
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.faithfulness.settings import Settings
from entitrack.methods.outcomes import MEASURED_AS, Outcomes

CIRCUITS = ("model", "circuit", "roles", "empty")
"""The whole model; the circuit; all heads live at the circuit's roles; none."""


@dataclass(frozen=True)
class Answers:
    """One model's answers.

    Attributes:
        circuits: Of `CIRCUITS`, `[circuit, prompt]`.
        random_means: Mean of every metric, of random circuits.
    """

    circuits: Outcomes
    random_means: Float[Tensor, "metric circuit"]


def run(experiment: Experiment, settings: Settings) -> Result:
    """Run the circuit, the whole model and random circuits, on every model.

    Returns:
        See `Outcomes`, `[model, circuit, prompt]` of `CIRCUITS`; and `random`, mean F of every random circuit,
        `[model, metric, circuit]`.
    """
    circuit = experiment.circuit(experiment.base())
    prompts = experiment.task.prompts()
    by_model = {}
    for name in experiment.members(settings.models, "method.models"):
        model = experiment.member(name, "method.models")
        circuit.check(model.anatomy, experiment.roles)
        ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts)
        by_model[name] = measure(ablated, circuit, experiment.quirks, settings.random_circuits)
    outcomes = Outcomes.stacked([answers.circuits for answers in by_model.values()])
    labels = {"model": tuple(by_model), "circuit": CIRCUITS}
    measurements = outcomes.measurements(("model", "circuit"), labels, prompt_set(prompts))
    if settings.random_circuits:
        means = torch.stack([answers.random_means for answers in by_model.values()])
        names = {"model": tuple(by_model), "metric": tuple(MEASURED_AS)}
        measurements["random"] = Measurement(means, ("model", "metric", "circuit"), names)
    return Result(
        method="faithfulness",
        facts={"metric": settings.metric, "quirks": sorted(experiment.quirks), "heads": circuit.size},
        measurements=measurements,
        words=experiment.words(outcomes.prediction),
    )


def measure(ablated: AblatedModel, circuit: Circuit, quirks: Quirks, n_random: int) -> Answers:
    """One circuit, and random ones of its shape, in one model."""
    live = ablated.live(circuit.groups)
    drawn = random_circuits(live, n_random, ablated.experiment.seed, replace=Quirk.HEADS_WITH_REPLACEMENT in quirks)
    everything, nothing = torch.ones_like(live), torch.zeros_like(live)
    outcomes = ablated.run(torch.cat([torch.stack([live, everything, nothing]), drawn]))
    empty = outcomes.logit_difference[2]
    outcomes, intact = outcomes.above(empty), ablated.intact().above(empty)
    random = outcomes[3:]
    means = torch.stack([random.values(metric).double().mean(1) for metric in MEASURED_AS])
    return Answers(Outcomes.joined([Outcomes.stacked([intact]), outcomes[:3]]), means)


def random_circuits(
    live: Bool[Tensor, "role layer head"], count: int, seed: int, replace: bool = False
) -> Bool[Tensor, "circuit role layer head"]:
    """Circuits with as many random heads at each role.

    Args:
        live: The circuit whose shape they have.
        count: How many.
        seed: Seed of the draws.
        replace: Draw with replacement, as published: a circuit may then have fewer heads.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = live.flatten(1)
    drawn = torch.zeros(count, *flat.shape, dtype=torch.bool)
    for circuit in drawn:
        for role, wanted in enumerate(flat.sum(1).tolist()):
            width = flat.shape[1]
            heads = torch.randint(width, (wanted,), generator=generator)
            if not replace:
                heads = torch.randperm(width, generator=generator)[:wanted]
            circuit[role, heads] = True
    return drawn.reshape(count, *live.shape)
