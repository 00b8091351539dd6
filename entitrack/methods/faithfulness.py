"""Does the circuit alone do what the model does, in every member of the family? (paper, sections 4.2 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.circuits import Circuit
from entitrack.core.table import Cell, Table
from entitrack.limits import limited
from entitrack.methods.ablated import Ablated, prepare
from entitrack.methods.ablation import AblationSettings, Compat, Metric, pick
from entitrack.methods.experiment import Experiment, clusters
from entitrack.stats import Estimate, estimate, ratio

_QUANTILES = (0.05, 0.5, 0.95, 1.0)


@dataclass
class Settings(AblationSettings):
    """Settings of `method=faithfulness`.

    Attributes:
        models: Members of the family to run the circuit on; empty takes all.
        random_circuits: How many random circuits of the same shape to compare with.
    """

    models: list[str] = field(default_factory=list)
    random_circuits: int = limited(100, least=0)


@dataclass(frozen=True)
class Faithfulness:
    """One circuit in one model.

    Attributes:
        circuit: F of the circuit, per prompt.
        model: F of the whole model.
        roles: F with all heads live at the circuit's roles: the most that any circuit at these roles may hope for.
        empty: F with no head live.
        random: F of random circuits of the same shape.
    """

    circuit: Float[Tensor, " prompt"]
    model: Float[Tensor, " prompt"]
    roles: Float[Tensor, " prompt"]
    empty: Float[Tensor, " prompt"]
    random: Float[Tensor, "circuit prompt"]


@dataclass(frozen=True)
class FaithfulnessResult:
    """One circuit in the models of a family.

    Attributes:
        metric: What F is.
        compat: Which procedure.
        size: Heads in the circuit.
        found: Name of the model -> what was measured.
        clusters: Context of each prompt.
    """

    metric: Metric
    compat: Compat
    size: int
    found: Mapping[str, Faithfulness]
    clusters: Int[Tensor, " prompt"]

    @property
    def tables(self) -> Sequence[Table]:
        """F of circuit and model, their ratio; and how random circuits compare."""
        rows: list[tuple[Cell, ...]] = []
        for name, one in self.found.items():
            means = [estimate(values, self.clusters) for values in (one.model, one.circuit)]
            more = [float(values.mean()) for values in (one.roles, one.empty)]
            rows.append((name, *means, self.faithfulness(name), *more, len(one.model)))
        columns = ("model", "F(M) [95 %]", "F(C) [95 %]", "F(C)/F(M) [95 %]", "all at roles", "none", "n")
        title = f"Faithfulness of a circuit of {self.size} heads; F is {self.metric.value}"
        main = Table(title, columns, tuple(rows))
        return (main, self._random()) if self.n_random else (main,)

    def _random(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for name, one in self.found.items():
            means = one.random.double().mean(1)
            quantiles = [float(means.quantile(at)) for at in _QUANTILES]
            beaten = (1 + int((means >= one.circuit.double().mean()).sum())) / (1 + self.n_random)
            rows.append((name, *quantiles, float(one.circuit.mean()), beaten, self.n_random))
        columns = ("model", "5 %", "median", "95 %", "best", "the circuit", "p", "circuits")
        return Table("F of random circuits of the same shape", columns, tuple(rows))

    @property
    def n_random(self) -> int:
        """How many random circuits there are."""
        return len(next(iter(self.found.values())).random)

    def faithfulness(self, name: str) -> Estimate:
        """F(C)/F(M) of one model, with its interval."""
        one = self.found[name]
        return ratio(one.circuit, one.model, self.clusters, decimals=2 if self.compat is Compat.PAPER else None)

    @property
    def notes(self) -> Sequence[str]:
        """How to read the tables."""
        rounding = "; F is rounded to 2 decimals before ratios are taken" if self.compat is Compat.PAPER else ""
        undefined = [
            name for name, one in self.found.items() if math.isclose(float(one.model.mean()), 0, abs_tol=1e-12)
        ]
        return (
            "all at roles: every head live at the circuit's roles, ablated elsewhere; none: the empty circuit",
            "p: share of random circuits, counting this one, that do at least as well",
            f"95 % intervals: bootstrap over contexts, paired for ratios{rounding}",
            *[f"{name}: F(M) is 0, so there is no ratio" for name in undefined],
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """F per prompt, by model; of random circuits their means."""
        named: dict[str, Tensor] = {"clusters": self.clusters}
        for name, one in self.found.items():
            for part in ("circuit", "model", "roles", "empty"):
                named[f"{name}.{part}"] = getattr(one, part)
            named[f"{name}.random"] = one.random.double().mean(1)
        return named


def run(experiment: Experiment, settings: Settings) -> FaithfulnessResult:
    """Run the circuit, the whole model and random circuits, on every model."""
    metric = pick(Metric, settings.metric, "method.metric")
    compat = pick(Compat, settings.compat, "method.compat")
    circuit = experiment.circuit(experiment.base())
    prompts = experiment.task.prompts()
    found = {}
    for name in settings.models or list(experiment.family.members):
        model = experiment.family.load(name, "method.models")
        circuit.check(model.anatomy, experiment.task.roles)
        ablated = prepare(experiment, model, [group.role for group in circuit.groups], settings, prompts)
        found[name] = measure(ablated, circuit, metric, compat, settings.random_circuits)
    return FaithfulnessResult(metric, compat, circuit.size, found, clusters(prompts))


def measure(ablated: Ablated, circuit: Circuit, metric: Metric, compat: Compat, n_random: int) -> Faithfulness:
    """One circuit in one model."""
    own = ablated.live(circuit.groups)
    seed = ablated.experiment.seed
    drawn = random_circuits(own, n_random, seed, replace=compat is Compat.PAPER)
    fixed = torch.stack([own, torch.ones_like(own), torch.zeros_like(own)])
    outcomes = ablated.run(torch.cat([fixed, drawn]))
    empty = outcomes.margin[2]
    values = outcomes.values(metric, empty)
    whole = ablated.whole().values(metric, empty)[0]
    return Faithfulness(values[0], whole, values[1], values[2], values[3:])


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
