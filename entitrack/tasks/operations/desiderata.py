"""What heads may carry where boxes change: the object, the letter asked for, or the box's place in the story.

Every counterfactual has the clean prompt's operations on the same boxes in the same order, in other names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from entitrack.core.errors import UserError
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.operations.wording import OperationsPrompt, WordingName, ask
from entitrack.tasks.operations.world import OperationsContext
from entitrack.tasks.protocol import DesideratumPair


@dataclass(frozen=True)
class Told(ABC):
    """A desideratum whose counterfactual asks another box of the same story in other names.

    Attributes:
        wording: How counterfactuals are told.
    """

    name: ClassVar[str]
    wording: WordingName = "imperative"

    def pairs(self, prompts: Sequence[OperationsPrompt], seed: int) -> list[DesideratumPair]:
        """See `entitrack.tasks.protocol.Desideratum.pairs`.

        Raises:
            UserError: Prompts are no stories of boxes, or only one box is full in the end.
        """
        random, pairs = Random(f"{self.name}/{seed}"), []
        for clean in prompts:
            others = [box for box in clean.context.state if box != clean.query]
            if not others:
                raise UserError(clean.origin, f"has no other full box, which desideratum {self.name!r} needs")
            asked = random.choice(others)
            context = self.renamed(random, clean, asked)
            other = ask(context, asked, self.wording, cluster=clean.cluster, origin=f"counterfactual of {clean.origin}")
            pairs.append(DesideratumPair(clean, other, self.target(clean, other)))
        return pairs

    def renamed(self, random: Random, clean: OperationsPrompt, asked: int) -> OperationsContext:
        """The clean context in names that it does not have; the box `asked` will be asked for."""
        return other_names(random, clean.context)

    @abstractmethod
    def target(self, clean: OperationsPrompt, other: OperationsPrompt) -> str:
        """The word that the patched run should answer."""


class ObjectValue(Told):
    """The heads carry the object itself: the patched run answers the counterfactual's object."""

    name: ClassVar[str] = "object_value"

    def target(self, clean: OperationsPrompt, other: OperationsPrompt) -> str:
        """The counterfactual's own answer."""
        return other.answer


class BoxPlace(Told):
    """The heads carry which box of the story is asked for: the patched run answers what the clean one has in it."""

    name: ClassVar[str] = "box_place"

    def target(self, clean: OperationsPrompt, other: OperationsPrompt) -> str:
        """What is in that box in the clean context."""
        return clean.context.answer(other.query)


class BoxLabelValue(Told):
    """The heads carry the letter asked for: the patched run answers the clean object in the box of that letter.

    The counterfactual's letter is that of a clean box which is neither the one asked for there nor at its own place;
    with two full boxes it is the other one's.
    """

    name: ClassVar[str] = "box_label_value"

    def renamed(self, random: Random, clean: OperationsPrompt, asked: int) -> OperationsContext:
        """The clean context in other names, but for one letter."""
        full = [box for box in clean.context.state if box != clean.query]
        lent = random.choice([box for box in full if box != asked] or full)
        context = other_names(random, clean.context)
        labels = list(context.labels)
        labels[asked] = clean.context.labels[lent]
        return context.called(context.words, labels)

    def target(self, clean: OperationsPrompt, other: OperationsPrompt) -> str:
        """The clean object in the box whose letter the counterfactual asks for."""
        label = other.context.labels[other.query]
        return clean.context.answer(clean.context.labels.index(label))


def other_names(random: Random, context: OperationsContext) -> OperationsContext:
    """The same story with objects and letters that it does not have."""
    words = random.sample([word for word in OBJECTS if word not in context.words], len(context.words))
    labels = random.sample([letter for letter in LABELS if letter not in context.labels], len(context.labels))
    return context.called(words, labels)


RULES: tuple[type[Told], ...] = (ObjectValue, BoxLabelValue, BoxPlace)
