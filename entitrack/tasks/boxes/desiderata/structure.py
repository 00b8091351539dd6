"""The paper's further desiderata: is it the position, when the counterfactual is built otherwise? (appendix).

All but one have the positional target. How a fact is worded anew is its phrasing's (`phrasings`); where the object
comes first the texts are the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from entitrack.tasks.boxes.desiderata.variables import Positional
from entitrack.tasks.boxes.desiderata.writing import TextPrompt, write
from entitrack.tasks.boxes.phrasings import fill
from entitrack.tasks.boxes.prompts import Box, BoxesPrompt


@dataclass(frozen=True)
class RandomTextStart(Positional):
    """Positional, with a sentence that names no object before the counterfactual's first box."""

    name: ClassVar[str] = "random_text_start"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, before="there are a bunch of boxes containing objects")


@dataclass(frozen=True)
class RandomTextEnd(Positional):
    """Positional, with a sentence that names no object after the counterfactual's last box."""

    name: ClassVar[str] = "random_text_end"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        # As a sentence of its own it begins otherwise: the embedded family does not know `These`.
        these = "there" if other.phrasing.has_sentences else "these"
        return write(other, after=f"{these} are a bunch of boxes containing objects")


@dataclass(frozen=True)
class TokensBetweenBoxAndObject(Positional):
    """Positional, with more words between object and box in the segment that the counterfactual asks for."""

    name: ClassVar[str] = "add_tokens_btw_box_and_obj"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, asked_form=other.phrasing.longer)


@dataclass(frozen=True)
class SegmentStart(Positional):
    """Positional, with one more box before the counterfactual's first; positions are counted without it."""

    name: ClassVar[str] = "add_seg_start"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, before=fill(other.phrasing.form, spare.object, spare.label)[0])


@dataclass(frozen=True)
class SegmentEnd(Positional):
    """Positional, with one more box after the counterfactual's last."""

    name: ClassVar[str] = "add_seg_end"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, after=fill(other.phrasing.form, spare.object, spare.label)[0])


@dataclass(frozen=True)
class BoxesBeforeSegment(Positional):
    """Positional, with three boxes named, but not filled, before the segment that the counterfactual asks for."""

    name: ClassVar[str] = "add_box_before_correct_segment"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        named = "there are three additional boxes, Box PP, Box BB and Box AA"
        return write(other, asked_form=f"{named}, {other.phrasing.form}")


@dataclass(frozen=True)
class NeighbouringSegment(Positional):
    """Not the position but the next one: the patched run answers the clean object after it (the first after the last).

    A control: heads that carry the position do not satisfy it.
    """

    name: ClassVar[str] = "incorrect_segment"
    fewest_boxes: ClassVar[int] = 3

    def positions(self, clean: BoxesPrompt) -> list[int]:
        """Neither the clean position nor the one before it, whose neighbour it is."""
        before = (clean.query - 1) % len(clean.context.boxes)
        return [box for box in super().positions(clean) if box != before]

    def target(self, clean: BoxesPrompt, other: BoxesPrompt) -> str:
        """The clean object one position after the counterfactual's."""
        boxes = clean.context.boxes
        return boxes[(other.query + 1) % len(boxes)].object


@dataclass(frozen=True)
class AlteredOrder(Positional):
    """Positional, with object and box in the other order in the segment that the counterfactual asks for."""

    name: ClassVar[str] = "altered_box_obj_order"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, asked_form=other.phrasing.reordered)


@dataclass(frozen=True)
class AlteredAssociation(Positional):
    """Positional, with the object said not to be in the box that the counterfactual asks for."""

    name: ClassVar[str] = "altered_box_obj_association"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, asked_form=other.phrasing.denied)


@dataclass(frozen=True)
class NoComma(Positional):
    """Positional, with no commas between the counterfactual's segments."""

    name: ClassVar[str] = "no_comma"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, separator=" ")


@dataclass(frozen=True)
class AddedComma(Positional):
    """Positional, with a comma within every segment of the counterfactual, after what it names first."""

    name: ClassVar[str] = "add_comma"

    def alter(self, other: BoxesPrompt, spare: Box) -> TextPrompt:
        """See `Drawn.alter`."""
        return write(other, form=other.phrasing.with_comma)
