"""Box prompts: a context that says what is where, and a question about it.

The document is in Box Q, the bread is in Box X, ... Box Q contains the   ->   document
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from entitrack.tasks.protocol import CORRECT_OBJECT, LAST, PREV_QUERY_LABEL, QUERY_LABEL, Span

ROLES = (LAST, QUERY_LABEL, PREV_QUERY_LABEL, CORRECT_OBJECT)
SEGMENT = ("the", "object", "is", "in", "Box", "label")
QUESTION = ("Box", "label", "contains", "the")
"""Names of the words of a segment of the context, and of the question."""


@dataclass(frozen=True)
class Box:
    """One box: what is in it and the letter on it."""

    object: str
    label: str


@dataclass(frozen=True)
class BoxesContext:
    """The sentence that says what is where."""

    boxes: tuple[Box, ...]

    @property
    def text(self) -> str:
        """The context without its final dot: `The document is in Box Q, the bread is in Box X`."""
        segments = (f"the {box.object} is in Box {box.label}" for box in self.boxes)
        joined = ", ".join(segments)
        return joined[:1].upper() + joined[1:]

    @property
    def labels(self) -> tuple[str, ...]:
        """The letters, in order."""
        return tuple(box.label for box in self.boxes)


@dataclass(frozen=True)
class BoxesPrompt:
    """A context and a question about it.

    Attributes:
        context: What is where.
        query: Index of the box that the roles `prev_query_label` and `correct_object` point at.
        label: The letter in the question. In a clean prompt it is that box's own; in a path-patching
            counterfactual it is a letter that no box of the context has, so nothing answers it.
        cluster: Number of the context; its questions are not independent.
        origin: Where it comes from, as errors name it.
    """

    context: BoxesContext
    query: int
    label: str
    cluster: int = 0
    origin: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The whole prompt, up to the word before the answer."""
        return f"{self.context.text}. Box {self.label} contains the"

    @property
    def answer(self) -> str:
        """The object in box `query`."""
        return self.context.boxes[self.query].object

    @cached_property
    def spans(self) -> Mapping[str, Span]:
        """Character spans of the object and letter of box `query`, and of the question's letter."""
        start = 0
        for box in self.context.boxes[: self.query]:
            start += len(f"the {box.object} is in Box {box.label}, ")
        box = self.context.boxes[self.query]
        object_start = start + len("the ")
        label_start = object_start + len(f"{box.object} is in Box ")
        question_start = len(self.context.text) + len(". Box ")
        return {
            CORRECT_OBJECT: (object_start, object_start + len(box.object)),
            PREV_QUERY_LABEL: (label_start, label_start + len(box.label)),
            QUERY_LABEL: (question_start, question_start + len(self.label)),
        }

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The objects in the other boxes."""
        return tuple(box.object for index, box in enumerate(self.context.boxes) if index != self.query)

    @cached_property
    def template(self) -> Mapping[str, Sequence[Span]]:
        """The words of the queried segment, those of the other segments together, and those of the question."""
        places: dict[str, list[Span]] = {}
        start = 0
        for index, box in enumerate(self.context.boxes):
            whose = "queried" if index == self.query else "other"
            for name, word in zip(SEGMENT, ("the", box.object, "is", "in", "Box", box.label), strict=True):
                places.setdefault(f"{whose} {name}", []).append((start, start + len(word)))
                start += len(word) + 1
            places.setdefault(f"{whose} end", []).append((start - 1, start))
            start += 1
        for name, word in zip(QUESTION, ("Box", self.label, "contains", "the"), strict=True):
            places[f"question {name}"] = [(start, start + len(word))]
            start += len(word) + 1
        return places

    @property
    def facets(self) -> Mapping[str, int]:
        """Number of boxes, and position of the queried one from 0."""
        return {"boxes": len(self.context.boxes), "query": self.query}
