"""At which positions is the work done? The roles of a circuit, found rather than assumed.

Every head works at the live positions and is ablated at all others. From the last token on, the place of the template
that helps most is added, again and again, until the model does about what it does with all of them. Places may help
only together: where none helps by itself, the best two are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.positions import live_position_answers
from entitrack.limits import limited
from entitrack.methods.ablated import Ablated, prepare, questions
from entitrack.methods.ablation import AblationSettings, Metric, Outcomes, pick
from entitrack.methods.experiment import Cell, Experiment, Table, clusters
from entitrack.stats import Estimate, estimate, ratio
from entitrack.tasks.encoding import template_positions

LEAST_GAIN = 0.01
"""A place that raises F by less does not help by itself."""

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
    most: int = limited(6, least=1)
    enough: float = limited(0.95, least=0)


@dataclass(frozen=True)
class Step:
    """One place added, or two that help only together.

    Attributes:
        places: What helped most.
        tokens: Tokens live in a prompt, with it.
        values: F with it, per prompt.
        others: Candidate -> mean F if it had been added instead; the chosen one too.
    """

    places: tuple[str, ...]
    tokens: int
    values: Float[Tensor, " prompt"]
    others: Mapping[str, float]

    @property
    def place(self) -> str:
        """Name of the candidate."""
        return " + ".join(self.places)


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
            others = sorted((value, name) for name, value in step.others.items() if name != step.place)
            next_best = f"{others[-1][1]} ({others[-1][0]:.3f})" if others else None
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
            "the last token is live first; where no place helps by itself, the best two are added",
            "among equals the larger logit difference decides; intervals do not cover the choice",
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
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    prompts = experiment.task.prompts()
    ablated = prepare(experiment, model, (), settings, prompts)
    places = template_positions(questions(prompts), experiment.family.tokenizer)
    nothing = run_live(ablated, places, [()])
    margin = nothing.margin[0]
    whole = ablated.whole().values(metric, margin)[0]
    steps: list[Step] = []
    chosen: tuple[str, ...] = ()
    reached = float(nothing.values(metric, margin).double().mean())
    while len(chosen) < min(settings.most, len(places)):
        step = grow(ablated, places, chosen, metric, margin, reached, settings.most - len(chosen))
        steps.append(step)
        chosen, reached = (*chosen, *step.places), float(step.values.double().mean())
        if reached >= settings.enough * float(whole.mean()):
            break
    return PositionsResult(
        model.name, metric, whole, nothing.values(metric, margin)[0], tuple(steps), clusters(prompts)
    )


def grow(
    ablated: Ablated,
    places: Places,
    chosen: tuple[str, ...],
    metric: Metric,
    margin: Float[Tensor, " prompt"],
    reached: float,
    room: int,
) -> Step:
    """Add the best place: first of all that of the last token, without which nothing reaches the answer.

    Where no place helps by itself, the best two are added, if there is room for two.
    """
    last = torch.cat([unit["prompts"]["last"] for unit in ablated.units])[:, None]
    open_places = [name for name in places if name not in chosen]
    ends = [name for name in open_places if bool((places[name] == last).any())]
    singles = [(name,) for name in ends or open_places]
    step = best_step(ablated, places, chosen, singles, metric, margin)
    pairs = [(one, other) for index, one in enumerate(open_places) for other in open_places[index + 1 :]]
    if ends or not pairs or room < 2 or float(step.values.double().mean()) >= reached + LEAST_GAIN:
        return step
    return best_step(ablated, places, chosen, pairs, metric, margin)


def best_step(
    ablated: Ablated,
    places: Places,
    chosen: tuple[str, ...],
    candidates: Sequence[tuple[str, ...]],
    metric: Metric,
    margin: Float[Tensor, " prompt"],
) -> Step:
    """The candidate with the highest F; among equals, with the largest logit difference."""
    outcomes = run_live(ablated, places, [(*chosen, *names) for names in candidates])
    values = outcomes.values(metric, margin)
    means = values.double().mean(1).tolist()
    ties = outcomes.margin.double().mean(1).tolist()
    best = max(range(len(candidates)), key=lambda index: (means[index], ties[index]))
    others = {" + ".join(names): mean for names, mean in zip(candidates, means, strict=True)}
    tokens = sum(places[name].shape[1] for name in (*chosen, *candidates[best]))
    return Step(candidates[best], tokens, values[best], others)


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
