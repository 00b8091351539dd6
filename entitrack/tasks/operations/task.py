"""Which object is in the box in the end? Generated stories, of which answers are simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from entitrack.core.errors import UserError
from entitrack.core.facets import FacetWords
from entitrack.core.parts import WHOLE, Part, part_of
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.boxes.paper import EDGES
from entitrack.tasks.boxes.prompts import ROLES
from entitrack.tasks.boxes.stages import PAPER_STAGES
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.operations.desiderata import RULES, BoxLabelValue, other_names
from entitrack.tasks.operations.wording import WORDINGS, OperationsPrompt, WordingName, ask, context_text
from entitrack.tasks.operations.world import (
    KINDS,
    Kind,
    OperationsContext,
    draw_context,
    labels_needed,
    objects_needed,
)
from entitrack.tasks.protocol import CONTENT, LETTER, POSITION, ApartPair, Desideratum, Pair

MOST_PROMPTS = 100_000
_LEAST_LABELS = (len(LABELS) - 1) // 2
"""A counterfactual needs as many other letters, and one more for its question."""


class Operations(TaskSettings):
    """Boxes whose content changes: every box that is full in the end is asked for once.

    Every context has the same operations, in an order of its own, so that all prompts are of one length.
    """

    name: ClassVar[str] = "operations"
    stages: ClassVar[Sequence[Stage]] = PAPER_STAGES
    edges: ClassVar[Sequence[Edge]] = EDGES
    facets: ClassVar[Mapping[str, FacetWords]] = {
        "touches": FacetWords("operations on it", "operations that touch the queried box", "{} operations"),
        "last": FacetWords("last of them", "last operation that touched the queried box", "", names=("none", *KINDS)),
    }
    desideratum_sets: ClassVar[Mapping[str, Sequence[str]]] = {"all": tuple(rule.name for rule in RULES)}
    count: int = Field(504, ge=1, le=MOST_PROMPTS, description="prompts")
    boxes: int = Field(3, ge=1, description="boxes that are full at first")
    operations: list[Kind] = Field(
        ["put", "move", "swap", "remove"], description=f"what happens, in any order, of {', '.join(KINDS)}"
    )
    seed: int = Field(0, description="of everything drawn")
    part: Literal["search", "judge", "all"] | None = Field(
        None,
        description="contexts that circuits are searched on, or that all else is judged on; null: as the method does",
    )
    wording: WordingName = Field(
        "passive",
        description='imperative: "Move the apple from Box A to Box B."; passive: in words of the embedded family',
    )

    @property
    def desiderata(self) -> Sequence[Desideratum]:  # type: ignore[override]
        """What heads may carry, in the task's own wording."""
        return [rule(self.wording) for rule in RULES]

    @property
    def roles(self) -> Sequence[str]:
        """The paper's four positions; letters and objects are where they were named last."""
        return ROLES

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        """Refuse settings that no prompt can be drawn for.

        Raises:
            UserError: Naming the key.
        """
        letters = labels_needed(self.boxes, self.operations)
        if letters > _LEAST_LABELS or 2 * objects_needed(self.boxes, self.operations) > len(OBJECTS):
            problem = f"{self.boxes} boxes and what is put or moved take {letters} letters"
            raise UserError("task.boxes", f"{problem}; {_LEAST_LABELS} leave others for a counterfactual")
        left = self.boxes + self.operations.count("put") - self.operations.count("remove")
        if left < 1:
            raise UserError("task.operations", f"leave {max(left, 0)} of {self.boxes} boxes full", fix="remove less")
        self._draw(Random(0))
        return self

    def resized(self, size: int, place: str) -> Operations:
        """The same with another number of boxes; see `entitrack.tasks.protocol.Resizable`."""
        try:
            return self.with_settings(boxes=size)
        except UserError as error:
            raise UserError(place, str(error)) from error

    def of_part(self, part: Part) -> Operations:
        """The same on a part of its contexts; see `entitrack.tasks.protocol.Parted`."""
        return self if self.part else self.with_settings(part=part)

    def prompts(self) -> list[OperationsPrompt]:
        """`count` prompts, context by context."""
        random, contexts, count = Random(f"operations/{self.seed}"), dict[OperationsContext, None](), 0
        while count < self.count:
            context = self._draw(random)
            named = context_text(context, WORDINGS["imperative"])
            if context not in contexts and self.part in (None, WHOLE, part_of(named)):
                contexts[context] = None
                count += len(context.state)
        asked = [
            ask(context, box, self.wording, cluster=cluster)
            for cluster, context in enumerate(contexts)
            for box in context.state
        ][: self.count]
        return [replace(prompt, origin=f"prompt {number} of the task") for number, prompt in enumerate(asked)]

    def pairs(self) -> list[Pair]:
        """The prompts with counterfactuals of the same operations, in other names, that ask for a letter of neither."""
        random, pairs = Random(f"operations/counterfactual/{self.seed}"), []
        for clean in self.prompts():
            context = other_names(random, clean.context)
            label = random.choice([each for each in LABELS if each not in (*context.labels, *clean.context.labels)])
            origin = f"counterfactual of {clean.origin}"
            pairs.append(Pair(clean, ask(context, clean.query, self.wording, label, clean.cluster, origin)))
        return pairs

    def apart(self, seed: int) -> list[ApartPair]:
        """See `entitrack.tasks.protocol.Separable`; a position is which box of the story it is."""
        pairs = []
        for pair in BoxLabelValue(self.wording).pairs(self.prompts(), seed):
            clean, other = pair.clean, pair.counterfactual
            assert isinstance(clean, OperationsPrompt)
            assert isinstance(other, OperationsPrompt)
            position = clean.context.answer(other.query)
            if position == pair.target:
                raise UserError(clean.origin, "has two full boxes, too few to pull apart", fix="use three or more")
            readings = {POSITION: position, LETTER: pair.target, CONTENT: other.answer}
            pairs.append(ApartPair(clean, other, readings, other.query))
        return pairs

    def backgrounds(self, count: int) -> list[OperationsPrompt]:
        """Stories of the same operations with everything else random, the letter in the question too."""
        random, drawn = Random(f"operations/background/{self.seed}"), []
        for number in range(count):
            context = self._draw(random)
            label, query = random.choice(LABELS), random.choice(list(context.state))
            drawn.append(ask(context, query, self.wording, label, number, f"prompt {number} with random content"))
        return drawn

    def _draw(self, random: Random) -> OperationsContext:
        return draw_context(random, self.boxes, self.operations, OBJECTS, LABELS)
