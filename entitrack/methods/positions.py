"""At which positions is the work done? The roles of a circuit, found rather than assumed.

Every head works at the live positions and is ablated at all others. From no live position on, the place of the
template that helps most is added, again and again, until the model does about what it does with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.errors import UserError
from entitrack.interventions.live_positions import live_position_answers
from entitrack.methods.ablated import Ablated, prepare, questions
from entitrack.methods.ablation import AblationSettings, Metric, Outcomes, pick
from entitrack.methods.experiment import Cell, Experiment, Table, clusters
from entitrack.stats import Estimate, estimate, ratio
from entitrack.tasks.encoding import template_positions

Places = Mapping[str, Int[Tensor, "prompt token"]]


@dataclass
class Settings(AblationSettings):
    """Settings of `method=positions`.

    Attributes:
        model: Member of the family; empty takes the base.
        most: Places to grow to.
        enough: Stop when F reaches this share of F(M).
    """

    model: str = ""
    most: int = 6
    enough: float = 0.95


@dataclass(frozen=True)
class Step:
    """One place added.

    Attributes:
        place: The place that helped most.
        tokens: Tokens live in a prompt, with it.
        values: F with it, per prompt.
        others: Place -> mean F if it had been added instead.
    """

    place: str
    tokens: int
    values: Float[Tensor, " prompt"]
    others: Mapping[str, float]


@dataclass(frozen=True)
class PositionsResult:
    """Places in the order in which they were added.

    Attributes:
        model: Name of the model.
        metric: What F is.
        whole: F of the whole model, per prompt.
        empty: F with no live position.
        steps: The places.
        clusters: Context of each prompt.
    """

    model: str
    metric: Metric
    whole: Float[Tensor, " prompt"]
    empty: Float[Tensor, " prompt"]
    steps: tuple[Step, ...]
    clusters: Int[Tensor, " prompt"]

    @property
    def tables(self) -> Sequence[Table]:
        """F as places are added; and what every place would have given."""
        rows: list[tuple[Cell, ...]] = [("none", 0, *self._values(self.empty), None)]
        for step in self.steps:
            runner_up = max((value, name) for name, value in step.others.items() if name != step.place)
            next_best = f"{runner_up[1]} ({runner_up[0]:.3f})"
            rows.append((f"+ {step.place}", step.tokens, *self._values(step.values), next_best))
        rows.append(("all", None, *self._values(self.whole), None))
        title = f"Live positions in {self.model}; F is {self.metric.value}, n = {len(self.whole)}"
        columns = ("live", "tokens", "F [95 %]", "F/F(M) [95 %]", "second best instead")
        return (Table(title, columns, tuple(rows)),)

    def _values(self, values: Float[Tensor, " prompt"]) -> tuple[Estimate, Estimate]:
        return estimate(values, self.clusters), ratio(values, self.whole, self.clusters)

    @property
    def notes(self) -> Sequence[str]:
        """What is live, and what the order means."""
        return (
            "all heads work at the live places and are ablated at the others; a place of several tokens is one choice",
            "greedy: places that only help together may be missed; intervals do not cover the choice",
            "95 % intervals: bootstrap over contexts, paired for ratios",
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """F per prompt, by number of places."""
        steps = torch.stack([self.empty, *(step.values for step in self.steps)])
        return {"steps": steps, "model": self.whole, "clusters": self.clusters}


def run(experiment: Experiment, settings: Settings) -> PositionsResult:
    """Grow the set of live places."""
    metric = pick(Metric, settings.metric, "method.metric")
    if settings.most < 1:
        raise UserError("method.most", f"{settings.most} places are too few")
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, (), settings, prompts)
    places = template_positions(questions(prompts), experiment.family.tokenizer)
    nothing = run_live(ablated, places, [()])
    margin = nothing.margin[0]
    whole = ablated.whole().values(metric, margin)[0]
    steps: list[Step] = []
    while len(steps) < min(settings.most, len(places)):
        chosen = tuple(step.place for step in steps)
        candidates = [name for name in places if name not in chosen]
        values = run_live(ablated, places, [(*chosen, name) for name in candidates]).values(metric, margin)
        means = dict(zip(candidates, values.double().mean(1).tolist(), strict=True))
        best = max(candidates, key=lambda name: means[name])
        tokens = sum(places[name].shape[1] for name in (*chosen, best))
        steps.append(Step(best, tokens, values[candidates.index(best)], means))
        if means[best] >= settings.enough * float(whole.mean()):
            break
    return PositionsResult(
        model.name, metric, whole, nothing.values(metric, margin)[0], tuple(steps), clusters(prompts)
    )


def run_live(ablated: Ablated, places: Places, sets: Sequence[Sequence[str]]) -> Outcomes:
    """What the model answers with only the places of each set live."""
    laid = [lay_out_places(ablated, places, names) for names in sets]
    found: list[Outcomes | None] = [None] * len(sets)
    for width in sorted({slots.shape[1] for slots, _ in laid}):
        members = [index for index, (slots, _) in enumerate(laid) if slots.shape[1] == width]
        slots = torch.stack([laid[index][0] for index in members])
        live = torch.stack([laid[index][1] for index in members])
        together = _run_sets(ablated, slots, live)
        for row, index in enumerate(members):
            found[index] = Outcomes(together.correct[row], together.probability[row], together.margin[row])
    done = [entry for entry in found if entry is not None]
    return Outcomes(
        torch.stack([entry.correct for entry in done]),
        torch.stack([entry.probability for entry in done]),
        torch.stack([entry.margin for entry in done]),
    )


def lay_out_places(ablated: Ablated, places: Places, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The tokens of some places in order, with the last token in any case `[prompt, token]`; which of them are live."""
    last = torch.cat([unit["prompts"]["last"] for unit in ablated.units])[:, None]
    slots = torch.cat([places[name] for name in names], 1) if names else last[:, :0]
    has_last = bool((slots == last).any())
    if not has_last:
        slots = torch.cat([slots, last], 1)
    live = torch.ones(slots.shape[1], dtype=torch.bool)
    live[-1] = has_last
    return slots.sort(1).values, live


def _run_sets(ablated: Ablated, slots: Int[Tensor, "set prompt token"], live: Tensor) -> Outcomes:
    """Sets of equally many tokens, a session a batch of prompts."""
    chunk = {"chunk_tokens": ablated.settings.chunk_tokens}
    sizes = [len(unit["prompts"]["last"]) for unit in ablated.units]
    asked = [
        {"prompts": unit["prompts"], "fill": unit["fill"], "slots": part, "live": live}
        for unit, part in zip(ablated.units, slots.split(sizes, 1), strict=True)
    ]
    found = list(ablated.experiment.runner.map(ablated.model, live_position_answers, asked, chunk))
    joined = {name: torch.cat([entry[name] for entry in found], 1) for name in found[0]}
    return Outcomes(joined["prediction"] == ablated.answers[None], joined["probability"], joined["margin"])
