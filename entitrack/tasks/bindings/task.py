"""Which value is bound to the variable that is asked for?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from entitrack.core.errors import UserError
from entitrack.core.facets import FacetWords
from entitrack.core.parts import WHOLE, Part
from entitrack.core.quirks import Quirk
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.bindings.forms import FORMS, FormName
from entitrack.tasks.boxes.contexts import draw_context
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.desiderata import PAPER
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.phrasings import Phrasing
from entitrack.tasks.boxes.prompts import BoxesContext, BoxesPrompt
from entitrack.tasks.protocol import Desideratum, Pair

MOST_PROMPTS = 10_000
"""Two variables have 29,000 prompts of a part; so many are soon drawn without one twice."""


class Bindings(PaperTask, TaskSettings):
    """Values that are bound to variables, or to names: every one of a context is asked for once."""

    name: ClassVar[str] = "bindings"
    desiderata: ClassVar[Sequence[Desideratum]] = PAPER
    desideratum_sets: ClassVar[Mapping[str, Sequence[str]]] = {"paper": tuple(rule.name for rule in PAPER)}
    quirks: ClassVar[Collection[Quirk]] = ()
    facets: ClassVar[Mapping[str, FacetWords]] = {
        "boxes": FacetWords("context", "facts", "{} facts"),
        "query": FacetWords("position", "position of the fact that is asked for", "fact {}", first=1),
    }
    count: int = Field(504, ge=1, le=MOST_PROMPTS, description="prompts")
    facts: int = Field(4, ge=2, description="facts in a context; of numbers 2 to 4, of names 2 to 12")
    form: FormName = Field(
        "capitals", description='capitals: "B = 7, K = 4. K ="; letters: "b = 7, ..."; names: "Ann is from Spain, ..."'
    )
    seed: int = Field(0, description="of everything drawn")
    part: Literal["search", "judge", "all"] | None = Field(
        None,
        description="contexts that circuits are searched on, or that all else is judged on; null: as the method does",
    )

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        """Refuse more facts than leave others for a counterfactual.

        Raises:
            UserError: Naming the key.
        """
        most = self.worded.most
        if self.facts > most:
            problem = f"{self.facts} facts do not leave others for a counterfactual"
            raise UserError("task.facts", problem, [f"2 to {most}"])
        return self

    @property
    def worded(self) -> Phrasing:
        """How its facts are put into words."""
        return FORMS[self.form]

    def resized(self, size: int, place: str) -> Bindings:
        """The same with another number of facts; see `entitrack.tasks.protocol.Resizable`."""
        try:
            return self.with_settings(facts=size)
        except UserError as error:
            raise UserError(place, str(error)) from error

    def of_part(self, part: Part) -> Bindings:
        """The same on a part of its contexts; see `entitrack.tasks.protocol.Parted`."""
        return self if self.part else self.with_settings(part=part)

    def prompts(self) -> list[BoxesPrompt]:
        """`count` prompts, context by context."""
        random, contexts = Random(f"bindings/{self.seed}/{self.form}"), dict[BoxesContext, None]()
        while len(contexts) * self.facts < self.count:
            contexts[self._draw(random, self.part or WHOLE)] = None
        asked = [
            BoxesPrompt(context, query, fact.label, cluster, phrasing=self.worded)
            for cluster, context in enumerate(contexts)
            for query, fact in enumerate(context.boxes)
        ][: self.count]
        return [replace(prompt, origin=f"prompt {number} of the task") for number, prompt in enumerate(asked)]

    def pairs(self) -> list[Pair]:
        """The prompts, each with one of other variables and values, whose question is about none of either."""
        return counterfactual_pairs(self.prompts(), self.seed, self.worded.objects)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        """Prompts with random variables and values, and a random variable in the question."""
        random = Random(f"bindings/background/{self.seed}/{self.form}")
        contexts = (self._draw(random, WHOLE) for _ in range(count))
        return [background(random, context, number, self.worded) for number, context in enumerate(contexts)]

    def _draw(self, random: Random, part: str) -> BoxesContext:
        """A context; all are of one half, as those of boxes are."""
        objects, labels = self.worded.objects, self.worded.labels
        return draw_context(random, self.facts, objects=objects, part=part, labels=labels)
