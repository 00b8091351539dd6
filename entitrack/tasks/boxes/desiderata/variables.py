"""The paper's three desiderata: object value, box label value, position (section 5, table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from entitrack.tasks.boxes.counterfactuals import counterfactual_origin
from entitrack.tasks.boxes.desiderata.drawn import Drawn, same_position
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt


@dataclass(frozen=True)
class ObjectValue(Drawn):
    """The heads carry the object itself: the patched run answers the counterfactual's object."""

    name: ClassVar[str] = "object_value"

    def target(self, clean: BoxesPrompt, other: BoxesPrompt) -> str:
        """The counterfactual's own answer."""
        return other.answer


@dataclass(frozen=True)
class BoxLabelValue(Drawn):
    """The heads carry the letter asked for: the patched run answers the clean object in the box of that letter.

    The counterfactual asks for a letter of the clean context, not the one that the clean prompt asks for.
    """

    name: ClassVar[str] = "box_label_value"

    def drawn(self, random: Random, clean: BoxesPrompt, objects: Sequence[str]) -> BoxesPrompt:
        """A counterfactual that shares one letter with the clean context, at another position than there."""
        labels = clean.context.labels
        named = random.choice([box for box in range(len(labels)) if box != clean.query])
        places = [box for box in range(len(labels)) if box != named]
        query = random.choice([box for box in places if box != clean.query] or places)
        boxes = list(self.other_context(random, clean, objects).boxes)
        boxes[query] = Box(boxes[query].object, labels[named])
        origin = counterfactual_origin(clean)
        context = BoxesContext(tuple(boxes))
        return replace(clean, context=context, query=query, label=labels[named], origin=origin)

    def published(self, random: Random, clean: BoxesPrompt, prompts: Sequence[BoxesPrompt]) -> BoxesPrompt:
        """Any prompt that asks for another letter of the clean context."""
        asked = (other for other in prompts if other.label in clean.context.labels and other.label != clean.label)
        return self.pick(random, asked)

    def target(self, clean: BoxesPrompt, other: BoxesPrompt) -> str:
        """The clean object in the box whose letter the counterfactual asks for."""
        return clean.context.boxes[clean.context.labels.index(other.label)].object


@dataclass(frozen=True)
class Positional(Drawn):
    """The heads carry the position of the box: the patched run answers the clean object at that position."""

    name: ClassVar[str] = "positional"

    def target(self, clean: BoxesPrompt, other: BoxesPrompt) -> str:
        """The clean object at the counterfactual's query position."""
        return same_position(clean, other)
