"""What is decided before circuits are run: prompts to order on and to judge on, sizes, the order in each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.core.parts import CONTEXTS
from entitrack.methods.ablated_model import AblatedModel, prepare
from entitrack.methods.ablation_settings import Ablation
from entitrack.methods.circuit_curve.orders import Places, make_order, sizes_to_run
from entitrack.methods.circuit_curve.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Model
from entitrack.tasks.protocol import LAST, Prompt


@dataclass(frozen=True)
class Plan:
    """What is the same for every model and ablation.

    Attributes:
        experiment: Models, task and the place to run.
        settings: What was asked for.
        circuit: The given circuit.
        prompts: What circuits are judged on.
        searched: What their order is made on.
        units: How many units there are.
        sizes: Sizes of the circuits, in ascending order.
    """

    experiment: Experiment
    settings: Settings
    circuit: Circuit
    prompts: Sequence[Prompt]
    searched: Sequence[Prompt]
    units: int
    sizes: Sequence[int]

    @property
    def control_count(self) -> int:
        """How many prompts random orders are run on."""
        return min(self.settings.control_prompts or len(self.prompts), len(self.prompts))

    def facts(self) -> dict[str, Any]:
        """What the numbers are about."""
        return {
            "metric": self.settings.metric,
            "order": self.settings.order,
            "units": self.units,
            "sizes": list(self.sizes),
            "heads": self.circuit.size,
            "control_prompts": self.control_count,
            "order_origin": self.order_origin(),
        }

    def order_origin(self) -> dict[str, Any]:
        """How many of the contexts that the order was made on are those that it is judged on."""
        searched = self.experiment.on_search().contexts(self.settings.order_prompts)
        return asdict(self.experiment.origin("the order", {CONTEXTS: searched}))


def make_plan(experiment: Experiment, settings: Settings) -> Plan:
    """Read the circuit and the prompts, and choose sizes, before any circuit is run."""
    base = experiment.base()
    circuit = experiment.circuit(base)
    units = len({*(group.role for group in circuit.groups), LAST}) * prod(_heads(base))
    sizes = sizes_to_run(settings.sizes, units, circuit.size)
    searched = experiment.on_search().task.prompts()[: settings.order_prompts]
    return Plan(experiment, settings, circuit, experiment.task.prompts(), searched, units, sizes)


def member(plan: Plan, name: str) -> Model:
    """A member of the family, whose units are those of the base.

    Raises:
        UserError: It has other numbers of layers or heads, so that sizes and random orders would not be the same.
    """
    model = plan.experiment.member(name, "method.models", plan.searched)
    plan.circuit.check(model.anatomy, plan.experiment.roles)
    has, should = _heads(model), _heads(plan.experiment.base())
    if has != should:
        problem = f"{name} has {has[0]} layers of {has[1]} heads, and the base {should[0]} of {should[1]}"
        raise UserError("method.models", problem, fix="leave it out, or make it the base of a family of its own")
    return model


def _heads(model: Model) -> tuple[int, int]:
    return model.anatomy["n_layers"], model.anatomy["n_heads"]


def prepared(plan: Plan, model: Model, prompts: Sequence[Prompt], ablation: Ablation) -> AblatedModel:
    """A model, ready to run circuits on some prompts."""
    roles = [group.role for group in plan.circuit.groups]
    return prepare(plan.experiment, model, roles, plan.settings, prompts, ablation)


def ordered(plan: Plan, judged: AblatedModel, ablation: Ablation) -> Places:
    """The order of a model's units under an ablation, made on the prompts to search on.

    Raises:
        UserError: The roles stand in another order there.
    """
    searched = prepared(plan, judged.model, plan.searched, ablation)
    if searched.roles != judged.roles:
        orders = f"{', '.join(searched.roles)} in prompts to search on, {', '.join(judged.roles)} in the others"
        raise UserError("circuit", f"roles stand in the order {orders}")
    return make_order(plan.settings.order, searched, plan.circuit)
