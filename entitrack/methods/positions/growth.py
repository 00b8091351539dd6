"""Adding places one by one, or two that help only together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from jaxtyping import Float
from torch import Tensor

from entitrack.methods.ablated_model import AblatedModel
from entitrack.methods.metrics import Metric
from entitrack.methods.outcomes import Outcomes
from entitrack.methods.positions.live_places import Places, answers_with

LEAST_GAIN = 0.01
"""A place that raises F by less does not help by itself."""


@dataclass(frozen=True)
class Step:
    """One place added, or two that help only together.

    Attributes:
        places: What helped most.
        tokens: Tokens live in a prompt, with it.
        outcomes: What is answered with it, `[prompt]`.
        mean: F with it.
        candidates: Name of a candidate -> mean F with it; the chosen one too.
    """

    places: tuple[str, ...]
    tokens: int
    outcomes: Outcomes = field(repr=False)
    mean: float
    candidates: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the candidate."""
        return joint_name(self.places)


def joint_name(places: Sequence[str]) -> str:
    """Name of a candidate."""
    return " + ".join(places)


@dataclass(frozen=True)
class Growth:
    """What the growth of the live places goes by.

    Attributes:
        ablated: The model and the prompts.
        places: The places of the template.
        metric: What F is.
        empty: The logit difference with no place live.
    """

    ablated: AblatedModel
    places: Places = field(repr=False)
    metric: Metric
    empty: Float[Tensor, " prompt"] = field(repr=False)

    def mean(self, outcomes: Outcomes) -> float:
        """F."""
        return float(outcomes.values(self.metric).double().mean())

    def steps(self, nothing: Outcomes, everything: Outcomes, most: int, enough: float) -> list[Step]:
        """Add places until there are `most` of them or F is `enough` of what it is with all of them."""
        steps: list[Step] = []
        live: tuple[str, ...] = ()
        reached, goal = self.mean(nothing), enough * self.mean(everything)
        while len(live) < min(most, len(self.places)):
            step = self.step(live, reached, most - len(live))
            steps.append(step)
            live, reached = (*live, *step.places), step.mean
            if reached >= goal:
                break
        return steps

    def step(self, live: tuple[str, ...], reached: float, room: int) -> Step:
        """Add the best place: first of all that of the last token, without which nothing reaches the answer.

        Where no place helps by itself, the best two are added, if there is room for two.

        Args:
            live: The places that are live already.
            reached: F with them.
            room: How many may be added.
        """
        last = self.ablated.last[:, None]
        open_places = [name for name in self.places if name not in live]
        ends = [name for name in open_places if bool((self.places[name] == last).any())]
        step = self.best(live, [(name,) for name in ends or open_places])
        pairs = list(combinations(open_places, 2))
        if ends or not pairs or room < 2 or step.mean >= reached + LEAST_GAIN:
            return step
        return self.best(live, pairs)

    def best(self, live: tuple[str, ...], candidates: Sequence[tuple[str, ...]]) -> Step:
        """The candidate with the highest F; among equals, with the largest logit difference."""
        outcomes = answers_with(self.ablated, self.places, [(*live, *names) for names in candidates]).above(self.empty)
        means = outcomes.values(self.metric).double().mean(1).tolist()
        ties = outcomes.logit_difference.double().mean(1).tolist()
        best = max(range(len(candidates)), key=lambda index: (means[index], ties[index]))
        tokens = sum(self.places[name].shape[1] for name in (*live, *candidates[best]))
        by_name = {joint_name(names): mean for names, mean in zip(candidates, means, strict=True)}
        return Step(candidates[best], tokens, outcomes[best], means[best], by_name)
