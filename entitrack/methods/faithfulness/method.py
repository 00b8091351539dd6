"""Run the circuit, the whole model and random circuits, on every model, under every ablation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.measurement import Measurement
from entitrack.core.quirks import Quirk, Quirks
from entitrack.core.result import Result
from entitrack.methods.ablated_model import AblatedModel, Circuits, prepare
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.faithfulness.settings import Settings
from entitrack.methods.outcomes import MEASURED_AS, Outcomes

CIRCUITS = ("model", "circuit", "roles", "empty")
"""The whole model; the circuit; all heads live at the circuit's roles; none."""


@dataclass(frozen=True)
class Answers:
    """One model's answers under one ablation.

    Attributes:
        circuits: Of `CIRCUITS`, `[circuit, prompt]`.
        random_means: Mean of every metric, of random circuits.
    """

    circuits: Outcomes
    random_means: Float[Tensor, "metric circuit"]


def run(experiment: Experiment, settings: Settings) -> Result:
    """Run the circuit, the whole model and random circuits, on every model, under every ablation.

    Returns:
        See `Outcomes`, `[ablation, model, circuit, prompt]` of `CIRCUITS`. Of random circuits, if there are any:
        `random`, mean F `[ablation, model, metric, circuit]`, and `random.heads` `[circuit, role, layer, head]`, which
        heads they have.
    """
    circuit = experiment.circuit(experiment.base())
    prompts = experiment.task.prompts()
    names, ablations = experiment.members(settings.models, "method.models"), list(dict.fromkeys(settings.ablations))
    roles, measured = [group.role for group in circuit.groups], {}
    for name in names:
        model = experiment.member(name, "method.models")
        circuit.check(model.anatomy, experiment.roles)
        intact: Outcomes | None = None  # the same under every ablation
        for ablation in ablations:
            ablated = prepare(experiment, model, roles, settings, prompts, ablation)
            random = draw_circuits(ablated, circuit, experiment.quirks, settings.random_circuits)
            intact = ablated.intact() if intact is None else intact
            measured[ablation, name] = measure(ablated, circuit, random, intact)
    by_ablation = [[measured[ablation, name] for name in names] for ablation in ablations]
    outcomes = Outcomes.stacked([Outcomes.stacked([one.circuits for one in answers]) for answers in by_ablation])
    labels = {"ablation": tuple(ablations), "model": tuple(names), "circuit": CIRCUITS}
    measurements = outcomes.measurements(("ablation", "model", "circuit"), labels, prompt_set(prompts))
    if settings.random_circuits:
        means = torch.stack([torch.stack([one.random_means for one in answers]) for answers in by_ablation])
        of_means = {"ablation": tuple(ablations), "model": tuple(names), "metric": tuple(MEASURED_AS)}
        measurements["random"] = Measurement(means, ("ablation", "model", "metric", "circuit"), of_means)
        axes = ("circuit", "role", "layer", "head")
        measurements["random.heads"] = Measurement(random, axes, {"role": ablated.roles})
    return Result(
        method="faithfulness",
        facts={"metric": settings.metric, "quirks": sorted(experiment.quirks), "heads": circuit.size},
        measurements=measurements,
        words=experiment.words(outcomes.prediction),
    )


def draw_circuits(ablated: AblatedModel, circuit: Circuit, quirks: Quirks, count: int) -> Circuits:
    """Random circuits of a circuit's shape: the same ones for every model and ablation."""
    replace = Quirk.HEADS_WITH_REPLACEMENT in quirks
    return random_circuits(ablated.live(circuit.groups), count, ablated.experiment.seed, replace)


def measure(ablated: AblatedModel, circuit: Circuit, random: Circuits, intact: Outcomes) -> Answers:
    """One circuit, and random ones of its shape, in one model under one ablation; `intact` is the model itself."""
    live = ablated.live(circuit.groups)
    everything, nothing = torch.ones_like(live), torch.zeros_like(live)
    outcomes = ablated.run(torch.cat([torch.stack([live, everything, nothing]), random]))
    empty = outcomes.logit_difference[2]
    outcomes, whole = outcomes.above(empty), intact.above(empty)
    of_random = outcomes[3:]
    means = torch.stack([of_random.values(metric).double().mean(1) for metric in MEASURED_AS])
    return Answers(Outcomes.joined([Outcomes.stacked([whole]), outcomes[:3]]), means)


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
