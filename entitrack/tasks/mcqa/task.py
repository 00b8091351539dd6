"""The cup is green. Which color does the cup have? A: red, B: green, C: black, D: white. Answer:   ->   B.

What is right is said in the first sentence; the answer is the letter at it. Position, letter and color can be pulled
apart, as in lists of boxes.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from pydantic import Field

from entitrack.core.facets import FacetWords
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.drawn import DrawnTask, StoryDesideratum, StoryPrompt
from entitrack.tasks.protocol import Desideratum
from entitrack.tasks.writing import TextPrompt, written

COLORS = ("red", "blue", "green", "black", "white", "brown", "pink", "gray", "orange", "yellow", "purple", "gold")
LETTERS = tuple(string.ascii_uppercase)


@dataclass(frozen=True)
class Choices:
    """A thing, its color, and what is offered.

    Attributes:
        thing: What is asked about.
        colors: What is offered.
        letters: The letter at each.
        right: Which of them it has, from 0.
    """

    thing: str
    colors: tuple[str, ...]
    letters: tuple[str, ...]
    right: int


class Chosen(StoryDesideratum):
    """The base of desiderata about choices: their counterfactual has another place, other letters and other colors."""

    task: ClassVar[str] = "mcqa"

    def ask(self, story: Choices) -> StoryPrompt:
        """The choices in words."""
        return _worded(story)

    def other(self, random: Random, story: Choices) -> Choices:
        """See `elsewhere`."""
        return elsewhere(random, story)


class AnswerLetter(Chosen):
    """The heads carry the letter that is answered: the patched run gives the counterfactual's."""

    name: ClassVar[str] = "answer_letter"

    def target(self, story: Choices, other: Choices) -> str:
        """The counterfactual's answer."""
        return other.letters[other.right]


class AnswerPlace(Chosen):
    """The heads carry which choice is right: the patched run gives the clean letter at the counterfactual's place."""

    name: ClassVar[str] = "answer_place"

    def target(self, story: Choices, other: Choices) -> str:
        """The clean letter there."""
        return story.letters[other.right]


class MCQA(DrawnTask):
    """Which letter stands at the color that the thing has?"""

    name: ClassVar[str] = "mcqa"
    stages: ClassVar[Sequence[Stage]] = (
        Stage(name="letter_fetcher", role="last"),
        Stage(name="place_transmitter", role="last", component="q", receivers="letter_fetcher"),
        Stage(name="choice_reader", role="right_letter", component="v", receivers="letter_fetcher"),
    )
    edges: ClassVar[Sequence[Edge]] = (
        Edge(source="last", target="right_letter"),
        Edge(source="last", target="right_color"),
        Edge(source="right_color", target="color"),
    )
    facets: ClassVar[Mapping[str, FacetWords]] = {
        "place": FacetWords("right choice", "position of the right choice", "choice {}", first=1)
    }
    desiderata: ClassVar[Sequence[Desideratum]] = (AnswerLetter(), AnswerPlace())
    choices: int = Field(4, ge=2, le=len(COLORS) // 2, description="colors that are offered")
    letters: bool = Field(False, description="letters are drawn from the whole alphabet; else A, B, C, ...")

    @property
    def roles(self) -> Sequence[str]:
        """The color, where it is said and where it is offered, the letter at it, and the last token."""
        return ("last", "color", "right_letter", "right_color")

    def draw(self, random: Random) -> Choices:
        """A thing and choices."""
        letters = random.sample(LETTERS, self.choices) if self.letters else LETTERS[: self.choices]
        colors = random.sample(COLORS, self.choices)
        return Choices(random.choice(OBJECTS), tuple(colors), tuple(letters), random.randrange(self.choices))

    def ask(self, story: Choices, cluster: int = 0, origin: str = "") -> TextPrompt:
        """The choices, up to the letter of the right one."""
        return replace(_worded(story), cluster=cluster, origin=origin)

    def counterfactual(self, random: Random, story: Choices) -> Choices:
        """Another place, other letters and other colors."""
        return elsewhere(random, story)


def elsewhere(random: Random, story: Choices) -> Choices:
    """The same question with another right place, letters that it does not have, and colors that it does not have."""
    count = len(story.colors)
    letters = random.sample([letter for letter in LETTERS if letter not in story.letters], count)
    colors = random.sample([color for color in COLORS if color not in story.colors], count)
    right = random.choice([place for place in range(count) if place != story.right])
    return Choices(story.thing, tuple(colors), tuple(letters), right)


def _worded(story: Choices) -> StoryPrompt:
    """Choices in words."""
    right = story.colors[story.right]
    parts: list[str | tuple[str, str]] = [
        "The ",
        ("thing", story.thing),
        " is ",
        ("color", right),
        ". Which color does the ",
    ]
    parts += [("asked", story.thing), " have? "]
    for place, (letter, color) in enumerate(zip(story.letters, story.colors, strict=True)):
        whose = "right" if place == story.right else "other"
        parts += [*([", "] if place else []), (f"{whose}_letter", letter), ": ", (f"{whose}_color", color)]
    parts += [". Answer:"]
    offered = tuple(letter for place, letter in enumerate(story.letters) if place != story.right)
    return StoryPrompt.of(story, written(parts, story.letters[story.right], offered, {"place": story.right}))
