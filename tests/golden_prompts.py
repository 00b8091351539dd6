"""Box prompts from the words of the golden tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from entitrack.tasks.boxes import Box, BoxesContext, BoxesPrompt, PaperTask, background, counterfactual_pairs
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.protocol import Pair


@dataclass(frozen=True)
class GoldenTask(PaperTask):
    """Like `Boxes`, with objects that the golden tokenizer knows; the counterfactuals too."""

    vocabulary: frozenset[str]
    count: int = 42
    boxes: int = 7
    name: ClassVar[str] = "golden"

    @property
    def fingerprint(self) -> Mapping[str, object]:
        return {"task": self.name, "count": self.count, "boxes": self.boxes}

    def _context(self, random: Random) -> BoxesContext:
        words = random.sample([word for word in OBJECTS if word in self.vocabulary], self.boxes)
        letters = random.sample(LABELS, self.boxes)
        return BoxesContext(tuple(Box(word, letter) for word, letter in zip(words, letters, strict=True)))

    def prompts(self) -> list[BoxesPrompt]:
        random = Random(7)
        contexts = [self._context(random) for _ in range(-(-self.count // self.boxes))]
        prompts = [
            BoxesPrompt(context, query, box.label, cluster)
            for cluster, context in enumerate(contexts)
            for query, box in enumerate(context.boxes)
        ]
        return prompts[: self.count]

    def pairs(self) -> list[Pair]:
        known = [word for word in OBJECTS if word in self.vocabulary]
        return counterfactual_pairs(self.prompts(), 0, known)

    def published_pairs(self) -> list[Pair]:
        known = [word for word in OBJECTS if word in self.vocabulary]
        return counterfactual_pairs(self.prompts(), 0, known, published=True)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        random = Random(9)
        return [background(random, self._context(random), number) for number in range(count)]
