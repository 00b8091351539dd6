"""At the market Anna met Ben. There Ben lent a book to   ->   Anna.

The name that stands once is the answer, and the one that stands twice, the subject, is not. Either may come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from entitrack.core.facets import FacetWords
from entitrack.core.stages import Edge, Stage
from entitrack.tasks.bindings.forms import NAMES
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.drawn import DrawnTask, StoryDesideratum, StoryPrompt
from entitrack.tasks.protocol import Desideratum
from entitrack.tasks.writing import TextPrompt, written

PLACES = ("market", "beach", "park", "school", "station", "museum", "office", "church", "library", "hotel")
VERBS = ("gave", "lent", "sold", "showed", "brought", "handed")
THINGS = tuple(word for word in OBJECTS if word[0] not in "aeiou")
"""What follows `a`."""


@dataclass(frozen=True)
class Giving:
    """Who gives what to whom.

    Attributes:
        first: The name that stands first.
        second: The name that stands second.
        subject: The name in the second sentence; in a counterfactual of path patching a third one.
        place: Where they meet.
        verb: What the subject does.
        thing: With what.
    """

    first: str
    second: str
    subject: str
    place: str
    verb: str
    thing: str

    @property
    def receiver(self) -> str:
        """The one of the two who is not the subject; the first of them where neither is."""
        return self.second if self.subject == self.first else self.first


class Given(StoryDesideratum):
    """The base of desiderata about givings."""

    task: ClassVar[str] = "ioi"

    def ask(self, story: Giving) -> StoryPrompt:
        """The story in words."""
        return _worded(story)


class ReceiverName(Given):
    """The heads carry the name that is answered: the patched run gives the counterfactual's."""

    name: ClassVar[str] = "receiver_name"

    def other(self, random: Random, story: Giving) -> Giving:
        """The same story of two other people."""
        first, second = random.sample([name for name in NAMES if name not in (story.first, story.second)], 2)
        names = {story.first: first, story.second: second}
        return replace(story, first=first, second=second, subject=names[story.subject])

    def target(self, story: Giving, other: Giving) -> str:
        """The counterfactual's answer."""
        return other.receiver


class SubjectName(Given):
    """The heads carry who the subject is: where the other one of the two is, the clean subject follows."""

    name: ClassVar[str] = "subject_name"

    def other(self, random: Random, story: Giving) -> Giving:
        """The same two in the other order, the other one being the subject: its place is that of the clean subject."""
        return replace(story, first=story.second, second=story.first, subject=story.receiver)

    def target(self, story: Giving, other: Giving) -> str:
        """The clean subject."""
        return story.subject


class SubjectPlace(Given):
    """The heads carry whether the subject is the first or the second of two: where it is the other, of other people."""

    name: ClassVar[str] = "subject_place"

    def other(self, random: Random, story: Giving) -> Giving:
        """Two other people, of whom the other one is the subject."""
        first, second = random.sample([name for name in NAMES if name not in (story.first, story.second)], 2)
        return replace(story, first=first, second=second, subject=second if story.subject == story.first else first)

    def target(self, story: Giving, other: Giving) -> str:
        """The clean subject, who stands where the counterfactual has its receiver."""
        return story.subject


class IOI(DrawnTask):
    """Who was something given to? Of two people, the one who is not named again."""

    name: ClassVar[str] = "ioi"
    stages: ClassVar[Sequence[Stage]] = (
        Stage(name="name_mover", role="last"),
        Stage(name="s_inhibition", role="last", component="q", receivers="name_mover"),
        Stage(name="induction", role="subject_again", component="v", receivers="s_inhibition"),
    )
    edges: ClassVar[Sequence[Edge]] = (
        Edge(source="last", target="receiver"),
        Edge(source="last", target="subject_again"),
        Edge(source="subject_again", target="subject"),
    )
    facets: ClassVar[Mapping[str, FacetWords]] = {
        "receiver": FacetWords("receiver", "which of the two is the receiver", "", names=("first", "second"))
    }
    desiderata: ClassVar[Sequence[Desideratum]] = (ReceiverName(), SubjectName(), SubjectPlace())

    @property
    def roles(self) -> Sequence[str]:
        """The receiver, the subject where it stands first and again, and the last token."""
        return ("last", "receiver", "subject", "subject_again")

    def draw(self, random: Random) -> Giving:
        """Two people, of whom either may be the subject."""
        first, second = random.sample(NAMES, 2)
        words = (random.choice(PLACES), random.choice(VERBS), random.choice(THINGS))
        return Giving(first, second, random.choice((first, second)), *words)

    def ask(self, story: Giving, cluster: int = 0, origin: str = "") -> TextPrompt:
        """The story, up to the name of the receiver."""
        return replace(_worded(story), cluster=cluster, origin=origin)

    def counterfactual(self, random: Random, story: Giving) -> Giving:
        """The same of three other people: nobody is named twice, so that nobody follows."""
        others = random.sample([name for name in NAMES if name not in (story.first, story.second)], 3)
        return replace(story, first=others[0], second=others[1], subject=others[2])


def _worded(story: Giving) -> StoryPrompt:
    """A story in words; roles of one in which nobody is named twice are where the clean one's may be."""
    swapped = story.receiver == story.second
    names = ("subject", "receiver") if swapped else ("receiver", "subject")
    parts: list[str | tuple[str, str]] = [
        *(
            "At the ",
            ("place", story.place),
            " ",
            (names[0], story.first),
            " met ",
            (names[1], story.second),
            ". There ",
        ),
        *(("subject_again", story.subject), " ", ("verb", story.verb), " a ", ("thing", story.thing), " to"),
    ]
    subject = story.first if swapped else story.second
    return StoryPrompt.of(story, written(parts, story.receiver, (subject,), {"receiver": int(swapped)}))
