"""Sentences from where they are kept: jsonl line by line; csv, parquet and data sets through `datasets`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from entitrack.core.errors import UserError, quoted, reason
from entitrack.disk.reading import parse_object, read_bytes, take
from entitrack.tasks.boxes.sentences import FORM

if TYPE_CHECKING:
    from datasets import Dataset

COLUMN = "sentence"
FIX = f'a line looks like {{"sentence": {FORM}}}'
_TABLES = {".csv": "csv", ".parquet": "parquet"}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LONGEST_LINE = 1 << 16
"""Bytes; the longest prompt of a dozen boxes has some hundreds."""


@dataclass(frozen=True)
class Row:
    """A sentence, and where it is from: `boxes.jsonl, line 3`.

    Attributes:
        place: As errors name it.
        number: Its number in its source, from 1.
        sentence: The text.
    """

    place: str
    number: int
    sentence: str


def is_on_the_hub(path: str) -> bool:
    """Whether a path names a data set: `owner/name`, where no file is."""
    known = PurePath(path).suffix in (".jsonl", ".json", ".txt", *_TABLES)
    return bool(_HUB_NAME.fullmatch(path)) and not known and not os.path.lexists(path)


def json_lines(path: str, content: bytes) -> Iterator[Row]:
    """The sentences of a jsonl file, one `{"sentence": "..."}` a line; empty lines are left out.

    Raises:
        UserError: Naming the line that is none.
    """
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        place, line = f"{path}, line {number}", line.removesuffix(b"\r")
        if len(line) > _LONGEST_LINE:
            raise UserError(place, f"has {len(line):,} bytes, more than {_LONGEST_LINE:,}", fix=FIX)
        if b"\r" in line:
            raise UserError(place, "has a carriage return within", fix="end lines with a line feed")
        try:
            sentence: str = take(parse_object(line.decode()), COLUMN, str)
        except UnicodeDecodeError as error:
            raise UserError(place, f"is not text in UTF-8 ({error.reason})") from error
        except ValueError as error:
            raise UserError(place, str(error), fix=FIX) from error
        yield Row(place, number, sentence)


def read_table(path: str) -> Dataset | None:
    """The rows of a csv or parquet file; None for a file of another kind.

    Raises:
        UserError: It cannot be read as what its name says.
    """
    kind = _TABLES.get(PurePath(path).suffix)
    if kind is None:
        return None
    read_bytes(path, "task.path")  # refuses what is no file
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    read: Any = Dataset.from_csv if kind == "csv" else Dataset.from_parquet
    with tempfile.TemporaryDirectory() as cache:
        try:
            table: Dataset = read(path, cache_dir=cache, keep_in_memory=True)
        except Exception as error:
            cause = error.__cause__ or error
            raise UserError(path, f"cannot be read as {kind} ({reason(cause)})") from error
    return _with_sentences(table, path)


def read_data_set(name: str, split: str | None) -> Dataset:
    """The rows of a data set on the hub, or in the cache of `datasets`.

    Raises:
        UserError: It cannot be read, or has several splits of which none is named.
    """
    from datasets import load_dataset

    try:
        splits: Any = load_dataset(name)
    except Exception as error:
        problem = f"there is no file {quoted(name)}, and no such data set can be read ({reason(error)})"
        raise UserError("task.path", problem) from error
    if split is None and len(splits) > 1:
        raise UserError("task.split", f"{name} has several splits, and none is named", splits)
    if split is not None and split not in splits:
        raise UserError("task.split", f"{name} has no split {quoted(split)}", splits)
    return _with_sentences(splits[split or next(iter(splits))], name)


def table_rows(table: Dataset, path: str) -> Iterator[Row]:
    """The sentences of a table.

    Raises:
        UserError: Naming the row, from 1, that has none.
    """
    sentences: Sequence[Any] = table[COLUMN]
    for number, sentence in enumerate(sentences, start=1):
        place = f"{path}, row {number}"
        if not isinstance(sentence, str):
            raise UserError(place, f"{COLUMN} is {quoted(sentence)}, not text")
        yield Row(place, number, sentence)


def _with_sentences(table: Dataset, path: str) -> Dataset:
    """The table, if it has the column that is read."""
    if COLUMN not in table.column_names:
        raise UserError(path, f"has no column {COLUMN!r}", table.column_names)
    return table
