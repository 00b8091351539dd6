"""Tasks whose every prompt is a context of its own: drawn until there are enough, and dealt to parts.

What is drawn is a story; prompts, and the counterfactuals of desiderata, are stories in words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from entitrack.core.parts import WHOLE, Part, part_of
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.protocol import DesideratumPair, Pair
from entitrack.tasks.writing import TextPrompt

MOST_PROMPTS = 10_000
"""So many are soon drawn without one twice."""


@dataclass(frozen=True, eq=False)
class StoryPrompt(TextPrompt):
    """A story in words.

    Attributes:
        story: What was drawn.
    """

    story: Any = None

    @classmethod
    def of(cls, story: Any, text: TextPrompt) -> Self:
        """A text that tells a story."""
        return cls(**{field.name: getattr(text, field.name) for field in fields(TextPrompt)}, story=story)


@dataclass(frozen=True)
class StoryDesideratum(ABC):
    """The base of desiderata, whose counterfactuals are other stories."""

    task: ClassVar[str]
    name: ClassVar[str]

    def pairs(self, prompts: Sequence[TextPrompt], seed: int) -> list[DesideratumPair]:
        """See `entitrack.tasks.protocol.Desideratum.pairs`."""
        random, pairs = Random(f"{self.task}/{self.name}/{seed}"), []
        for clean in prompts:
            assert isinstance(clean, StoryPrompt)
            other = self.other(random, clean.story)
            asked = replace(self.ask(other), cluster=clean.cluster, origin=f"counterfactual of {clean.origin}")
            pairs.append(DesideratumPair(clean, asked, self.target(clean.story, other)))
        return pairs

    @abstractmethod
    def ask(self, story: Any) -> StoryPrompt:
        """A story as a prompt."""

    @abstractmethod
    def other(self, random: Random, story: Any) -> Any:
        """The counterfactual's story."""

    @abstractmethod
    def target(self, story: Any, other: Any) -> str:
        """The word that the patched run should answer."""


class DrawnTask(TaskSettings, ABC):
    """A task that draws stories, and says how one is asked about."""

    count: int = Field(200, ge=1, le=MOST_PROMPTS, description="prompts, each of a context of its own")
    seed: int = Field(0, description="of everything drawn")
    part: Literal["search", "judge", "all"] | None = Field(
        None,
        description="contexts that circuits are searched on, or that all else is judged on; null: as the method does",
    )

    @abstractmethod
    def draw(self, random: Random) -> Any:
        """A story, which `ask` puts into words."""

    @abstractmethod
    def ask(self, story: Any, cluster: int = 0, origin: str = "") -> TextPrompt:
        """A story as a prompt."""

    @abstractmethod
    def counterfactual(self, random: Random, story: Any) -> Any:
        """The story whose activations path patching takes."""

    def of_part(self, part: Part) -> Self:
        """The same on a part of its contexts; see `entitrack.tasks.protocol.Parted`."""
        return self if self.part else self.with_settings(part=part)

    def stories(self) -> Sequence[Any]:
        """The stories of the prompts, each once."""
        random, found = Random(f"{self.name}/{self.seed}"), dict[Any, None]()
        while len(found) < self.count:
            story = self.draw(random)
            if self.part in (None, WHOLE, part_of(self.ask(story).text)):
                found[story] = None
        return list(found)

    def prompts(self) -> list[TextPrompt]:
        """`count` prompts."""
        asked = (self.ask(story, number, f"prompt {number} of the task") for number, story in enumerate(self.stories()))
        return list(asked)

    def pairs(self) -> list[Pair]:
        """The prompts with path-patching counterfactuals."""
        random = Random(f"{self.name}/counterfactual/{self.seed}")
        others = [self.counterfactual(random, story) for story in self.stories()]
        return [
            Pair(clean, replace(self.ask(other), cluster=clean.cluster, origin=f"counterfactual of {clean.origin}"))
            for clean, other in zip(self.prompts(), others, strict=True)
        ]

    def backgrounds(self, count: int) -> list[TextPrompt]:
        """Stories with everything random."""
        random = Random(f"{self.name}/background/{self.seed}")
        return [self.ask(self.draw(random), number, f"prompt {number} with random content") for number in range(count)]
