"""How the counterfactuals of a desideratum about boxes are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from entitrack.core.errors import UserError
from entitrack.tasks.boxes.contexts import MOST_BOXES, draw_context
from entitrack.tasks.boxes.counterfactuals import counterfactual_origin
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt
from entitrack.tasks.protocol import DesideratumPair, Prompt

PUBLISHED_SPARE = Box("apple", "O")
"""The published one more box, whatever the prompts have."""


@dataclass(frozen=True)
class Drawn(ABC):
    """A desideratum whose counterfactual asks another box of another context.

    By default the counterfactual shares no object and no letter with the clean prompt and asks for a box at another
    position, so each target has one explanation. Published, it is another of the clean prompts, any that does not ask
    for the first box: about 1 in 6 ask for the clean prompt's own position.
    """

    name: ClassVar[str]
    fewest_boxes: ClassVar[int] = 2

    def pairs(self, prompts: Sequence[BoxesPrompt], seed: int) -> list[DesideratumPair]:
        """See `Desideratum.pairs`.

        Raises:
            UserError: Prompts are not about boxes, or about too few.
        """
        self._check(prompts)
        random, objects = Random(f"{self.name}/{seed}/default"), objects_of(prompts)
        pairs = []
        for clean in prompts:
            other = self.drawn(random, clean, objects)
            pairs.append(self._pair(clean, other, draw_spare(random, objects, clean, other)))
        return pairs

    def published_pairs(self, prompts: Sequence[BoxesPrompt], seed: int) -> list[DesideratumPair]:
        """The same as the published code draws them.

        Raises:
            UserError: Prompts are not about boxes, about too few, or none can be a counterfactual.
        """
        self._check(prompts)
        random = Random(f"{self.name}/{seed}/paper")
        return [self._pair(clean, self.published(random, clean, prompts), PUBLISHED_SPARE) for clean in prompts]

    def _pair(self, clean: BoxesPrompt, other: BoxesPrompt, spare: Box) -> DesideratumPair:
        return DesideratumPair(clean, self.alter(other, spare), self.target(clean, other))

    def _check(self, prompts: Sequence[BoxesPrompt]) -> None:
        if not all(isinstance(prompt, BoxesPrompt) for prompt in prompts):
            raise UserError("task", f"desideratum {self.name!r} is about boxes, and some prompts are not")
        counts = [len(prompt.context.boxes) for prompt in prompts]
        if min(counts) < self.fewest_boxes or max(counts) > MOST_BOXES:
            problem = f"desideratum {self.name!r} needs {self.fewest_boxes} to {MOST_BOXES} boxes"
            raise UserError("task", f"{problem}, prompts have {min(counts)} to {max(counts)}")

    def drawn(self, random: Random, clean: BoxesPrompt, objects: Sequence[str]) -> BoxesPrompt:
        """A counterfactual that differs from the clean prompt in object, letter and position."""
        context = self.other_context(random, clean, objects)
        query = random.choice(self.positions(clean))
        label, origin = context.boxes[query].label, counterfactual_origin(clean)
        return replace(clean, context=context, query=query, label=label, origin=origin)

    @staticmethod
    def other_context(random: Random, clean: BoxesPrompt, objects: Sequence[str]) -> BoxesContext:
        """A context that shares no object and no letter with the clean one."""
        boxes, labels = len(clean.context.boxes), clean.phrasing.labels
        return draw_context(random, boxes, avoid=clean.context, objects=objects, labels=labels)

    def positions(self, clean: BoxesPrompt) -> list[int]:
        """Positions that a drawn counterfactual may ask for."""
        return [box for box in range(len(clean.context.boxes)) if box != clean.query]

    def published(self, random: Random, clean: BoxesPrompt, prompts: Sequence[BoxesPrompt]) -> BoxesPrompt:
        """A counterfactual as the published procedure picks it from the prompts themselves."""
        boxes = len(clean.context.boxes)
        return self.pick(random, (other for other in prompts if 0 < other.query < boxes))

    def pick(self, random: Random, candidates: Iterable[BoxesPrompt]) -> BoxesPrompt:
        """One of the prompts that may serve.

        Raises:
            UserError: None may.
        """
        found = list(candidates)
        if not found:
            problem = f"no prompt can be a counterfactual of desideratum {self.name!r}"
            raise UserError("task.count", problem, fix="ask for more prompts")
        return random.choice(found)

    def alter(self, other: BoxesPrompt, spare: Box) -> Prompt:
        """The counterfactual as it is read; itself, unless the desideratum changes its structure.

        Args:
            other: The counterfactual.
            spare: One more box, for those that add one.
        """
        return other

    @abstractmethod
    def target(self, clean: BoxesPrompt, other: BoxesPrompt) -> str:
        """The word that the patched run should answer."""


def objects_of(prompts: Sequence[BoxesPrompt]) -> Sequence[str]:
    """What counterfactuals' boxes are filled with: the prompts' own objects where there are enough."""
    most = max(len(prompt.context.boxes) for prompt in prompts)
    own = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
    return own if len(own) > 2 * most else prompts[0].phrasing.objects


def draw_spare(random: Random, objects: Sequence[str], clean: BoxesPrompt, other: BoxesPrompt) -> Box:
    """A box whose object and letter neither prompt has."""
    boxes = (*clean.context.boxes, *other.context.boxes)
    taken, named = {box.object for box in boxes}, {box.label for box in boxes}
    word = random.choice([word for word in objects if word not in taken])
    return Box(word, random.choice([letter for letter in clean.phrasing.labels if letter not in named]))


def same_position(clean: BoxesPrompt, other: BoxesPrompt) -> str:
    """The clean prompt's object at the position that the counterfactual asks for."""
    return clean.context.boxes[other.query].object
