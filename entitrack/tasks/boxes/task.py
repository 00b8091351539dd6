"""The paper's task: which object is in the box that the question names? (section 3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from entitrack.core.errors import UserError, quoted
from entitrack.core.parts import WHOLE, Part
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.boxes.contexts import MOST_BOXES, check_boxes, count_contexts, draw_context, half_named
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.phrasings import OBJECT_FIRST, PHRASINGS, Phrasing, PhrasingName
from entitrack.tasks.boxes.prompts import BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.protocol import Pair

MOST_PROMPTS = 1_000_000
"""More are refused: they take longer than a day through any model, and gigabytes before the first is answered."""


MOST_EXAMPLES = 16
"""More make prompts that are examples for the most part; so many other contexts there are in any case."""


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
    part: Literal["search", "judge", "all"] | None = Field(
        None,
        description="contexts that circuits are searched on, or that all else is judged on; null: as the method does",
    )
    phrasing: PhrasingName = Field(
        "object_first",
        description='object_first: "The book is in Box Q, ..." (the paper\'s); label_first: "Box Q contains the book,'
        ' ..."; sentences: "The book is in Box Q. ..."; question: "... Question: What does Box Q contain? Answer: The"',
    )
    examples: int = Field(
        0, ge=0, le=MOST_EXAMPLES, description="solved examples in front of each prompt, of contexts of the train split"
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
        contexts = count_contexts(self.boxes, self.split, self.objects, self._part)
        if self.split == "train":
            contexts -= self.examples
        if self.count > contexts * self.boxes:
            there = f"the {half_named(self.split, self._part)} has {contexts} contexts"
            problem = f"{self.count} prompts cannot be drawn: {there}"
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
            **({"part": self._part} if self._part != WHOLE else {}),
            # Named where they are not the usual: what was found before there was a choice goes on being found.
            **({"phrasing": self.phrasing} if self.phrasing != OBJECT_FIRST.name else {}),
            **({"examples": self.examples} if self.examples else {}),
            **({"without": sorted(self.without)} if self.without else {}),
        }

    def resized(self, size: int, place: str) -> Boxes:
        """The same with another number of boxes; see `entitrack.tasks.protocol.Resizable`."""
        check_boxes(size, place)
        return self.with_settings(boxes=size)

    @property
    def _part(self) -> str:
        return self.part or WHOLE

    def of_part(self, part: Part) -> Boxes:
        """The same on a part of its contexts; see `entitrack.tasks.protocol.Parted`."""
        return self if self.part else self.with_settings(part=part)

    @property
    def worded(self) -> Phrasing:
        """How its facts are put into words."""
        return PHRASINGS[self.phrasing]

    def prompts(self) -> list[BoxesPrompt]:
        """`count` prompts, context by context."""
        random = Random(f"boxes/{self.seed}/{self.boxes}/{self.split}")
        contexts: dict[BoxesContext, None] = {}
        while len(contexts) * self.boxes < self.count:
            context = draw_context(random, self.boxes, self.split, objects=self.objects, part=self._part)
            if context not in self._solved:
                contexts[context] = None
        phrasing, examples = self.worded, self._examples_text
        asked = [
            BoxesPrompt(context, query, box.label, cluster, phrasing=phrasing, examples=examples)
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
        words = self.worded, self._examples_text
        return [background(random, context, number, *words) for number, context in enumerate(contexts)]

    @cached_property
    def _solved(self) -> Mapping[BoxesContext, int]:
        """The contexts of the examples, and which box of each is asked for."""
        random = Random(f"examples/{self.seed}/{self.boxes}")
        solved: dict[BoxesContext, int] = {}
        while len(solved) < self.examples:
            solved[draw_context(random, self.boxes, "train", objects=self.objects)] = random.randrange(self.boxes)
        return solved

    @cached_property
    def _examples_text(self) -> str:
        """The examples as they stand before every prompt, clean or not: all have one length so."""
        asked = (
            BoxesPrompt(context, query, context.labels[query], phrasing=self.worded)
            for context, query in self._solved.items()
        )
        return "".join(f"{prompt.text} {prompt.answer}.\n" for prompt in asked)
