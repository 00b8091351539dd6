"""Every circuit on every task, in every member of the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from entitrack.core.circuits import Circuit, read_circuit
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.names import check_name
from entitrack.core.result import Result
from entitrack.methods.ability import ask_and_require
from entitrack.methods.ablated_model import prepare
from entitrack.methods.asking import Asked
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.faithfulness.method import random_circuits
from entitrack.methods.outcomes import Outcomes
from entitrack.methods.transfer.settings import EMPTY, MODEL, Settings
from entitrack.methods.transplanted import answers_with, heads_of, read_heads, shape_of
from entitrack.models.family import Model
from entitrack.tasks.protocol import Parted, Prompt
from entitrack.tasks.registry import make_task, task_defaults


@dataclass(frozen=True)
class OnTask:
    """Circuits on one task.

    Attributes:
        name: Of the task.
        experiment: The run on its prompts.
        prompts: They.
        circuits: The circuits by name, as the task's roles name their places.
    """

    name: str
    experiment: Experiment
    prompts: Sequence[Prompt]
    circuits: Mapping[str, Circuit]

    @property
    def roles(self) -> list[str]:
        """The roles that circuits have heads at."""
        return list(dict.fromkeys(group.role for circuit in self.circuits.values() for group in circuit.groups))


def run(experiment: Experiment, settings: Settings) -> Result:
    """Run every circuit on every task, in every member of the family.

    Returns:
        For every task `value.TASK` `[model, circuit, prompt]`, of the whole model, no heads and each circuit;
        `random.TASK` `[model, circuit, draw]`, mean F of random circuits; where the base has donors,
        `correct.TASK` `[donor, circuit, prompt]`, the base with a donor's heads, after the rows of the base and the
        donor themselves, and `control.TASK` `[donor, circuit, draw]`, accuracy with random heads.
    """
    names, base = experiment.members(settings.models, "method.models"), experiment.base()
    circuits = _circuits(experiment, settings)
    measurements, overlaps = dict[str, Measurement](), list[str]()
    tasks = _tasks(experiment, settings, circuits)
    for on in tasks:
        origins = {
            name: on.experiment.origin(f"circuit {name}", circuit.found_on) for name, circuit in circuits.items()
        }
        overlaps += [f"{on.name}: {origin.note}" for origin in origins.values() if origin.shared]
        models = {name: on.experiment.member(name, "method.models") for name in names}
        asked = {name: ask_and_require(on.experiment, settings, model, on.prompts) for name, model in models.items()}
        measurements |= _faithfulness(on, settings, models)
        donors = {name: (models[name], asked[name]) for name in names if name != base.name}
        measurements |= _transplants(on, settings, base, donors) if donors else {}
    facts = {
        "base": base.name,
        "tasks": [on.name for on in tasks],
        "circuits": {name: circuit.size for name, circuit in circuits.items()},
        "ablation": settings.ablation,
        "metric": settings.metric,
        "overlaps": overlaps,
    }
    return Result(method="transfer", facts=facts, measurements=measurements)


def _tasks(experiment: Experiment, settings: Settings, circuits: Mapping[str, Circuit]) -> list[OnTask]:
    """The run's task and the others, each with the circuits.

    Raises:
        UserError: There is no such task or setting, or a circuit has a role that a task does not have.
    """
    tasks = {experiment.task.name: experiment.task}
    for name, given in settings.tasks.items():
        place = f"method.tasks.{check_name(name, 'method.tasks')}"
        if name in tasks:
            raise UserError(place, "is the run's own task; give it another name, and `name: TASK` among its settings")
        kind = str(given.get("name", name))
        own = {key: value for key, value in given.items() if key != "name"}
        try:
            task = make_task(kind, {key: v for key, v in task_defaults(kind).items() if key != "name"} | own)
        except UserError as error:
            raise UserError(place, str(error)) from error
        tasks[name] = task.of_part("judge") if isinstance(task, Parted) else task
    found = []
    for name, task in tasks.items():
        at = replace(experiment, task=task)
        placed = {key: circuit.with_roles(at.role_aliases) for key, circuit in circuits.items()}
        for key, circuit in placed.items():
            circuit.check(at.base().anatomy, at.roles, f"circuit {key} on task {name}")
        found.append(OnTask(name, at, task.prompts(), placed))
    return found


def _circuits(experiment: Experiment, settings: Settings) -> dict[str, Circuit]:
    """The circuits by name, narrowed by masks where there are any."""
    if not settings.circuits:
        return {experiment.family.base: experiment.circuit(experiment.base())}
    circuits = {}
    for name, file in settings.circuits.items():
        place = f"method.circuits.{check_name(name, 'method.circuits', (MODEL, EMPTY, 'base', 'donor'))}"
        read = read_circuit(file, experiment.family.name, place)
        if name in settings.masks:
            masks = experiment.read_masks(settings.masks[name])
            read = masks.narrow_circuit(read, settings.desideratum, settings.masks[name])
        circuits[name] = read
    return circuits


def _faithfulness(on: OnTask, settings: Settings, models: Mapping[str, Model]) -> dict[str, Measurement]:
    """The circuits on a task, in every model, beside random ones."""
    values, random = [], []
    for model in models.values():
        ablated = prepare(on.experiment, model, on.roles, settings, on.prompts, settings.ablation)
        live = torch.stack([ablated.live(circuit.groups) for circuit in on.circuits.values()])
        drawn = [random_circuits(one, settings.controls, on.experiment.seed) for one in live]
        outcomes = ablated.run(torch.cat([torch.zeros_like(live[:1]), live, *drawn]))
        empty = outcomes.logit_difference[0]
        whole = Outcomes.stacked([ablated.intact().above(empty)])
        of_all = torch.cat([part.values(settings.metric) for part in (whole, outcomes.above(empty))])
        values.append(of_all[: 2 + len(live)])
        random.append(of_all[2 + len(live) :].double().mean(1).reshape(len(live), settings.controls))
    labels = {"model": tuple(models), "circuit": tuple(on.circuits)}
    rows = {"model": tuple(models), "circuit": (MODEL, EMPTY, *on.circuits)}
    by_prompt = torch.stack(values)
    if settings.metric == "accuracy":
        by_prompt = by_prompt.bool()
    return {
        f"value.{on.name}": Measurement(by_prompt, ("model", "circuit", PROMPT), rows, prompt_set(on.prompts)),
        f"random.{on.name}": Measurement(torch.stack(random), ("model", "circuit", "draw"), labels),
    }


def _transplants(
    on: OnTask, settings: Settings, base: Model, donors: Mapping[str, tuple[Model, Asked]]
) -> dict[str, Measurement]:
    """The base with every donor's heads, beside random ones at the same roles."""
    own = torch.stack([heads_of(circuit.groups, on.roles, shape_of(base)) for circuit in on.circuits.values()])
    drawn = [random_circuits(one, settings.controls, on.experiment.seed) for one in own]
    sets = torch.cat([torch.zeros_like(own[:1]), own, *drawn])
    correct, control = [], []
    for donor, asked in donors.values():
        right = _right_with(on, base, donor, sets)
        correct.append(torch.cat([right[:1], asked.correct[None], right[1 : 1 + len(own)]]))
        control.append(right[1 + len(own) :].double().mean(1).reshape(len(own), settings.controls))
    labels = {"donor": tuple(donors), "circuit": tuple(on.circuits)}
    rows = {"donor": tuple(donors), "circuit": ("base", "donor", *on.circuits)}
    return {
        f"correct.{on.name}": Measurement(
            torch.stack(correct), ("donor", "circuit", PROMPT), rows, prompt_set(on.prompts)
        ),
        f"control.{on.name}": Measurement(torch.stack(control), ("donor", "circuit", "draw"), labels),
    }


def _right_with(
    on: OnTask, base: Model, donor: Model, sets: Bool[Tensor, "set role layer head"]
) -> Bool[Tensor, "set prompt"]:
    """Whether the base is right with a donor's heads, for each set of them."""
    replace(on.experiment, donor=donor.name).donor_of(base, ["z"])  # refuses one whose z may not move
    used, batches = sets.any(0), on.experiment.encoded(on.prompts)
    read = read_heads(on.experiment, donor, batches, on.roles, used)
    description = f"{on.name}: {donor.name} -> {base.name}"
    return answers_with(on.experiment, base, read, used, sets, description, len(batches)).correct
