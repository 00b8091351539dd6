"""Box prompts from a file or a data set in the paper's format: a sentence a line or row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from entitrack.core.errors import UserError
from entitrack.disk.reading import read_bytes
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.boxes.counterfactuals import background, counterfactual_pairs
from entitrack.tasks.boxes.paper import PaperTask
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.rows import FIX, Row, is_on_the_hub, json_lines, read_data_set, read_table, table_rows
from entitrack.tasks.boxes.sentences import parse_sentence
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.protocol import Pair

if TYPE_CHECKING:
    from datasets import Dataset

_PATH_HELP = 'jsonl, csv or parquet of sentences, "The book is in Box Q, ... Box Q contains the book"; or owner/name'


class BoxesFile(PaperTask, TaskSettings):
    """The prompts of a file, or of a data set on the hub, in its order."""

    name: ClassVar[str] = "boxes_file"
    path: str = Field(description=_PATH_HELP)
    count: int = Field(0, ge=0, description="how many of the first sentences to take; 0: all")
    seed: int = Field(0, description="of the counterfactuals")
    split: str | None = Field(None, description="which split of a data set on the hub; null: its only one")

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings and the content of the file, not its place."""
        data_set = is_on_the_hub(self.path)
        content = "\n".join(row.sentence for row in self._rows()).encode() if data_set else self._content
        digest = sha256(content).hexdigest()
        return {"task": self.name, "content": digest, "count": self.count, "seed": self.seed}

    def prompts(self) -> list[BoxesPrompt]:
        """The prompts; those with one context form a cluster, wherever in the file they are.

        Raises:
            UserError: Naming the line or row that does not parse, or that asks what another one asks.
        """
        contexts: dict[BoxesContext, int] = {}
        rows: dict[BoxesPrompt, Row] = {}
        for row in self._rows():
            if self.count and len(rows) == self.count:
                break
            prompt = self._parse(row)
            prompt = replace(prompt, cluster=contexts.setdefault(prompt.context, len(contexts)))
            if prompt in rows:
                first = rows[prompt].place.rpartition(", ")[2]
                problem = f"asks what {first} asks, about the same context"
                raise UserError(prompt.origin, problem, fix="remove one of them")
            rows[prompt] = row
        if len(rows) < max(1, self.count):
            raise UserError(self.path, f"has {len(rows)} prompts, {max(1, self.count)} are asked for")
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

        They have as many boxes as the file's first prompt.
        """
        prompts = self.prompts()
        boxes = len(prompts[0].context.boxes)
        objects = sorted({box.object for prompt in prompts for box in prompt.context.boxes})
        random = Random(f"background/{self.seed}")
        drawn = []
        for number in range(count):
            pairs = zip(random.sample(objects, boxes), random.sample(LABELS, boxes), strict=True)
            context = BoxesContext(tuple(Box(word, letter) for word, letter in pairs))
            drawn.append(background(random, context, number))
        return drawn

    def _rows(self) -> Iterable[Row]:
        """The sentences, one after another, so that none after the last that is wanted is read."""
        table = self._table
        return json_lines(self.path, self._content) if table is None else table_rows(table, self.path)

    @staticmethod
    def _parse(row: Row) -> BoxesPrompt:
        try:
            return replace(parse_sentence(row.sentence), origin=row.place)
        except ValueError as error:
            raise UserError(row.place, str(error), fix=FIX) from error

    @cached_property
    def _table(self) -> Dataset | None:
        """The rows of a table or data set, read once; None for a file of lines."""
        return read_data_set(self.path, self.split) if is_on_the_hub(self.path) else read_table(self.path)

    @cached_property
    def _content(self) -> bytes:
        """The file, read once: what is recorded of it is what was run."""
        return read_bytes(self.path, "task.path")
