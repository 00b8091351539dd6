"""Box prompts: a context that says what is where, and a question about it.

The document is in Box Q, the bread is in Box X, ... Box Q contains the   ->   document

In which words it says so is its phrasing (`phrasings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from entitrack.tasks.boxes.phrasings import OBJECT_FIRST, Phrasing, capitalised
from entitrack.tasks.boxes.wording import OTHER, QUERIED, Segment, Wording, put_into_words
from entitrack.tasks.protocol import CORRECT_OBJECT, LAST, PREV_QUERY_LABEL, QUERY_LABEL, Span

ROLES = (LAST, QUERY_LABEL, PREV_QUERY_LABEL, CORRECT_OBJECT)


@dataclass(frozen=True)
class Box:
    """One box: what is in it and the letter on it."""

    object: str
    label: str


@dataclass(frozen=True)
class BoxesContext:
    """What is where, whatever the words that say so."""

    boxes: tuple[Box, ...]

    @property
    def text(self) -> str:
        """The context as the paper words it: `The document is in Box Q, the bread is in Box X`.

        It names a context in every phrasing: which half of all it is in does not depend on how it is put.
        """
        form = OBJECT_FIRST.form
        facts = (form.format(object=box.object, label=box.label) for box in self.boxes)
        return capitalised(OBJECT_FIRST.separator.join(facts))

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
        phrasing: In which words the context is put.
        examples: Solved examples, in front of it.
    """

    context: BoxesContext
    query: int
    label: str
    cluster: int = 0
    origin: str = field(default="", compare=False)
    phrasing: Phrasing = field(default=OBJECT_FIRST, repr=False)
    examples: str = field(default="", repr=False)

    @property
    def text(self) -> str:
        """The whole prompt, up to the word before the answer."""
        return self._wording.text

    @property
    def answer(self) -> str:
        """The object in box `query`."""
        return self.context.boxes[self.query].object

    @property
    def spans(self) -> Mapping[str, Span]:
        """Character spans of the object and letter of box `query`, and of the question's letter."""
        return self._wording.spans

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The objects in the other boxes."""
        return tuple(box.object for index, box in enumerate(self.context.boxes) if index != self.query)

    @property
    def template(self) -> Mapping[str, Sequence[Span]]:
        """The words of the queried segment, those of the other segments together, and those of the question."""
        return self._wording.template

    def segments(self, form: str | None = None, asked_form: str | None = None) -> list[Segment]:
        """Its facts.

        Args:
            form: How a fact is written; None: as the phrasing has it.
            asked_form: How the one that is asked for is; None: as the others.
        """
        usual = form or self.phrasing.form
        return [
            Segment(asked_form or usual, QUERIED, box.object, box.label)
            if number == self.query
            else Segment(usual, OTHER, box.object, box.label)
            for number, box in enumerate(self.context.boxes)
        ]

    @cached_property
    def _wording(self) -> Wording:
        return put_into_words(self.segments(), self.label, self.phrasing, self.examples)

    @property
    def facets(self) -> Mapping[str, int]:
        """Number of boxes, and position of the queried one from 0."""
        return {"boxes": len(self.context.boxes), "query": self.query}
