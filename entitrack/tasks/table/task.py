"""Prompts of a table: jsonl, csv, parquet, or a data set of the hub or of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from entitrack.core.errors import UserError
from entitrack.core.names import check_name
from entitrack.core.parts import WHOLE, part_of
from entitrack.tasks.base import TaskSettings
from entitrack.tasks.protocol import Desideratum, DesideratumPair, Pair
from entitrack.tasks.rows import Source
from entitrack.tasks.table.reading import FIX, Columns, TablePrompt, read_prompt


class CounterfactualAnswer:
    """The heads carry what the counterfactual differs in: the patched run gives the counterfactual's answer."""

    name = "counterfactual_answer"

    def pairs(self, prompts: Sequence[TablePrompt], seed: int) -> list[DesideratumPair]:
        """See `entitrack.tasks.protocol.Desideratum.pairs`; nothing is drawn.

        Raises:
            UserError: A prompt has no counterfactual, or one of the same answer.
        """
        pairs = []
        for prompt in prompts:
            other = prompt.counterfactual
            if other is None or other.answer == prompt.answer:
                raise UserError(prompt.origin, f"has no counterfactual of another answer, which {self.name!r} is about")
            pairs.append(DesideratumPair(prompt, other, other.answer))
        return pairs


class Table(TaskSettings):
    """The prompts of a table, in its order: a row is a prompt, its answer, and what else its columns say."""

    name: ClassVar[str] = "table"
    desiderata: ClassVar[Sequence[Desideratum]] = (CounterfactualAnswer(),)
    path: str = Field(description="a .jsonl, .csv or .parquet file; owner/name; or a folder of a saved data set")
    split: str | None = Field(None, description="which split of a data set; null: its only one")
    count: int = Field(0, ge=0, description="how many of the first prompts to take; 0: all")
    part: Literal["search", "judge", "all"] = Field(
        "all", description="contexts that are taken: search, to find circuits on; judge, for all else; all"
    )
    prompt: str = Field("prompt", description="column of the texts to continue")
    answer: str = Field("answer", description="column of the words that should follow")
    counterfactual: str = Field("counterfactual", description="column of the texts that activations are taken from")
    counterfactual_answer: str = Field("counterfactual_answer", description="column of the words that follow these")
    spans: str = Field("spans", description="column of roles: {name: [start, end] in characters, or words found once}")
    counterfactual_spans: str = Field("counterfactual_spans", description="column of the counterfactuals' roles")
    alternatives: str = Field("alternatives", description="column of other answers that the prompt offers: a list")
    context: str = Field("context", description="column that is alike in prompts that are not independent")
    by: list[str] = Field([], description="columns of whole numbers that results are broken down by")

    @field_validator("by")
    @classmethod
    def _are_names(cls, by: list[str]) -> list[str]:
        for number, name in enumerate(by):
            check_name(name, f"task.by.{number}")
        return by

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings and the content of the table, not its place."""
        settings = self.model_dump(mode="json", exclude={"path", "split"})
        return {"task": self.name, "content": self._source.digest(self._all_columns), **settings}

    @property
    def _columns(self) -> Columns:
        named = {field.name: getattr(self, field.name) for field in fields(Columns)}
        return Columns(**named | {"by": tuple(self.by)})

    @property
    def _all_columns(self) -> list[str]:
        *named, by = (getattr(self._columns, field.name) for field in fields(Columns))
        return [*named, *by]

    def prompts(self) -> list[TablePrompt]:
        """The prompts; those of one context form a cluster.

        Raises:
            UserError: Naming the row that is no prompt, that has other roles than the first, or that repeats one.
        """
        return list(self._prompts)

    def pairs(self) -> list[Pair]:
        """The prompts with their counterfactuals.

        Raises:
            UserError: Naming the first row that has none.
        """
        pairs = []
        for prompt in self._prompts:
            if prompt.counterfactual is None:
                raise UserError(prompt.origin, f"has no {self.counterfactual!r}", fix="patching needs one a prompt")
            pairs.append(Pair(prompt, prompt.counterfactual))
        return pairs

    @cached_property
    def _prompts(self) -> Sequence[TablePrompt]:
        """The rows that are taken, read once."""
        found: dict[str, TablePrompt] = {}
        clusters: dict[str, int] = {}
        for row in self._source.rows():
            if self.count and len(found) == self.count:
                break
            prompt = read_prompt(row, self._columns, clusters)
            if self.part not in (WHOLE, part_of(prompt.context)):
                continue
            if prompt.text in found:
                first = found[prompt.text].origin.rpartition(", ")[2]
                raise row.wrong(f"asks what {first} asks")
            if found:
                _check_roles(prompt, next(iter(found.values())))
            found[prompt.text] = prompt
        if len(found) < max(1, self.count):
            of_part = "" if self.part == WHOLE else f" of part {self.part}"
            raise UserError(self.path, f"has {len(found)} prompts{of_part}, {max(1, self.count)} are asked for")
        return tuple(found.values())

    @cached_property
    def _source(self) -> Source:
        """The rows, opened once: what is recorded of them is what was run."""
        source = Source.open(self.path, self.split, folders=True, fix=FIX)
        source.require([self.prompt, self.answer, *self.by])
        return source


def _check_roles(prompt: TablePrompt, first: TablePrompt) -> None:
    """Refuse a prompt that does not have the roles that the first one has.

    Raises:
        UserError: Naming both.
    """
    if prompt.spans.keys() != first.spans.keys():
        line = first.origin.rpartition(", ")[2]
        raise UserError(prompt.origin, f"has the roles {sorted(prompt.spans)}, and {line} has {sorted(first.spans)}")
