"""The paper's task: which object is in the box that the question names? (section 3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from entitrack.core.errors import UserError, quoted
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.boxes.contexts import MOST_BOXES, check_boxes, count_contexts, draw_context
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.prompts import BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.protocol import Pair

MOST_PROMPTS = 1_000_000
"""More are refused: they take longer than a day through any model, and gigabytes before the first is answered."""


class Boxes(PaperTask, TaskSettings):
    """Box prompts, generated: every box of a context is asked for once, and no context is drawn twice.

    The last context may be asked fewer questions; for `split` see `contexts.held_out`.
    """

    name: ClassVar[str] = "boxes"
    count: int = Field(504, ge=1, description="prompts")
    boxes: int = Field(7, description=f"boxes in a context, 1 to {MOST_BOXES}")
    seed: int = Field(0, description="of everything drawn")
    split: Literal["test", "train"] = Field(
        "test", description="test: contexts that the embedded family never saw in training"
    )
    without: list[str] = Field([], description="objects that are not drawn: those that a tokenizer begins like others")

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        """Refuse settings that no prompt can be drawn for.

        Raises:
            UserError: Naming the key.
        """
        check_boxes(self.boxes, "task.boxes")
        for index, word in enumerate(self.without):
            if word not in OBJECTS:
                raise UserError(f"task.without.{index}", f"there is no object {quoted(word)}", OBJECTS)
        if len(self.objects) < 2 * self.boxes + 1:
            problem = f"leaves {len(self.objects)} objects; {self.boxes} boxes, a counterfactual's and a spare one"
            raise UserError("task.without", f"{problem} need {2 * self.boxes + 1}")
        self._check_count()
        return self

    def _check_count(self) -> None:
        """Refuse more prompts than there are."""
        contexts = count_contexts(self.boxes, self.split, self.objects)
        if self.count > contexts * self.boxes:
            problem = f"{self.count} prompts cannot be drawn: the {self.split} half has {contexts} contexts"
            most = f"1 to {contexts * self.boxes}"
            raise UserError("task.count", f"{problem} of {self.boxes} boxes, each asked once for every box", [most])
        if self.count > MOST_PROMPTS:
            raise UserError("task.count", f"{self.count} prompts are too many", [f"1 to {MOST_PROMPTS}"])

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """What may be in a box."""
        return tuple(word for word in OBJECTS if word not in self.without)

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings, as plain values."""
        return {
            "task": self.name,
            "count": self.count,
            "boxes": self.boxes,
            "seed": self.seed,
            "split": self.split,
            **({"without": sorted(self.without)} if self.without else {}),
        }

    def resized(self, size: int, place: str) -> Boxes:
        """The same with another number of boxes; see `entitrack.tasks.protocol.Resizable`."""
        check_boxes(size, place)
        return self.with_settings(boxes=size)

    def prompts(self) -> list[BoxesPrompt]:
        """`count` prompts, context by context."""
        random = Random(f"boxes/{self.seed}/{self.boxes}/{self.split}")
        contexts: dict[BoxesContext, None] = {}
        while len(contexts) * self.boxes < self.count:
            contexts[draw_context(random, self.boxes, self.split, objects=self.objects)] = None
        asked = [
            BoxesPrompt(context, query, box.label, cluster)
            for cluster, context in enumerate(contexts)
            for query, box in enumerate(context.boxes)
        ][: self.count]
        return [replace(prompt, origin=f"prompt {number} of the task") for number, prompt in enumerate(asked)]

    def pairs(self) -> list[Pair]:
        """The prompts with path-patching counterfactuals."""
        return counterfactual_pairs(self.prompts(), self.seed, self.objects)

    def published_pairs(self) -> list[Pair]:
        """The same, where a question's letter may be on a box of its context."""
        return counterfactual_pairs(self.prompts(), self.seed, self.objects, published=True)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        """Prompts with random objects, letters and a random letter in the question, one for each context."""
        random = Random(f"background/{self.seed}/{self.boxes}/{self.split}")
        contexts = (draw_context(random, self.boxes, self.split, objects=self.objects) for _ in range(count))
        return [background(random, context, number) for number, context in enumerate(contexts)]
