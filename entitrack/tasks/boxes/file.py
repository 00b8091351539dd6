"""Box prompts from a file or a data set in the paper's format: a sentence a line or row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from entitrack.core.errors import UserError
from entitrack.core.parts import WHOLE, part_of
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.sentences import FORM, parse_sentence
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.protocol import Pair
from entitrack.tasks.rows import Row, Source

COLUMN = "sentence"
FIX = f'a line looks like {{"sentence": {FORM}}}'
_PATH_HELP = (
    'jsonl, csv or parquet of sentences, "The book is in Box Q, ... Box Q contains the book" (or "Box Q contains the'
    ' book, ..."); or owner/name'
)


class BoxesFile(PaperTask, TaskSettings):
    """The prompts of a file, or of a data set on the hub, in its order."""

    name: ClassVar[str] = "boxes_file"
    path: str = Field(description=_PATH_HELP)
    count: int = Field(0, ge=0, description="how many of the first sentences to take; 0: all")
    seed: int = Field(0, description="of the counterfactuals")
    part: Literal["search", "judge", "all"] = Field(
        "all", description="contexts that are taken: search, to find circuits on; judge, for all else; all"
    )
    split: str | None = Field(None, description="which split of a data set on the hub; null: its only one")

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings and the content of the file, not its place."""
        digest = self._source.digest([COLUMN])
        part = {} if self.part == WHOLE else {"part": self.part}
        return {"task": self.name, "content": digest, "count": self.count, "seed": self.seed, **part}

    def prompts(self) -> list[BoxesPrompt]:
        """The prompts; those with one context form a cluster, wherever in the file they are.

        Raises:
            UserError: Naming the line or row that does not parse, that asks what another one asks, or that is worded
                otherwise than the first.
        """
        contexts: dict[BoxesContext, int] = {}
        rows: dict[BoxesPrompt, Row] = {}
        for row in self._source.rows():
            if self.count and len(rows) == self.count:
                break
            prompt = self._parse(row)
            if self.part not in (WHOLE, part_of(prompt.context.text)):
                continue
            prompt = replace(prompt, cluster=contexts.setdefault(prompt.context, len(contexts)))
            if prompt in rows:
                first = rows[prompt].place.rpartition(", ")[2]
                problem = f"asks what {first} asks, about the same context"
                raise UserError(prompt.origin, problem, fix="remove one of them")
            _check_phrasing(prompt, next(iter(rows.items()), None))
            rows[prompt] = row
        if len(rows) < max(1, self.count):
            of_part = "" if self.part == WHOLE else f" of part {self.part}"
            raise UserError(self.path, f"has {len(rows)} prompts{of_part}, {max(1, self.count)} are asked for")
        return list(rows)

    def pairs(self) -> list[Pair]:
        """The prompts with path-patching counterfactuals, made of the file's own objects where it has enough."""
        return self._pairs()

    def published_pairs(self) -> list[Pair]:
        """The same, where a question's letter may be on a box of its context."""
        return self._pairs(published=True)

    def _pairs(self, published: bool = False) -> list[Pair]:
        prompts = self.prompts()
        most = max(len(prompt.context.boxes) for prompt in prompts)
        own = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
        objects = own if len(own) >= 2 * most else OBJECTS
        return counterfactual_pairs(prompts, self.seed, objects, published)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        """Prompts with random objects of the file, random letters and a random letter in the question.

        They have as many boxes as the file's first prompt, in the same words.
        """
        prompts = self.prompts()
        boxes, phrasing = len(prompts[0].context.boxes), prompts[0].phrasing
        objects = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
        random = Random(f"background/{self.seed}")
        drawn = []
        for number in range(count):
            pairs = zip(random.sample(objects, boxes), random.sample(LABELS, boxes), strict=True)
            context = BoxesContext(tuple(Box(word, letter) for word, letter in pairs))
            drawn.append(background(random, context, number, phrasing))
        return drawn

    @staticmethod
    def _parse(row: Row) -> BoxesPrompt:
        sentence = row.text(COLUMN)
        try:
            return replace(parse_sentence(sentence), origin=row.place)
        except ValueError as error:
            raise row.wrong(str(error)) from error

    @cached_property
    def _source(self) -> Source:
        """The rows, opened once: what is recorded of them is what was run."""
        source = Source.open(self.path, self.split, fix=FIX)
        source.require([COLUMN])
        return source


def _check_phrasing(prompt: BoxesPrompt, first: tuple[BoxesPrompt, Row] | None) -> None:
    """Refuse prompts of which some say what is where in other words: their places are not the same.

    Raises:
        UserError: Naming both.
    """
    if first is not None and prompt.phrasing != first[0].phrasing:
        place = first[1].place.rpartition(", ")[2]
        problem = f"is worded {prompt.phrasing.shown!r}, and {place} {first[0].phrasing.shown!r}"
        raise UserError(prompt.origin, problem, fix="keep each in a file of its own")
