"""Rows from where people keep them: jsonl line by line; csv, parquet, folders and data sets through `datasets`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from entitrack.core.errors import UserError, quoted, reason
from entitrack.disk.reading import parse_object, read_bytes

if TYPE_CHECKING:
    from datasets import Dataset

_TABLES = {".csv": "csv", ".parquet": "parquet"}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_LONGEST_LINE = 1 << 16
"""Bytes; the longest prompt of a dozen boxes has some hundreds."""
_SAVED = ("dataset_dict.json", "state.json")
"""What lies in a folder that `Dataset.save_to_disk` wrote."""


@dataclass(frozen=True)
class Row:
    """A row, and where it is from: `boxes.jsonl, line 3`.

    Attributes:
        place: As errors name it.
        number: Its number in its source, from 1.
        values: What it has, by column.
        fix: What a right one looks like, for errors.
    """

    place: str
    number: int
    values: Mapping[str, Any]
    fix: str = ""

    def text(self, column: str) -> str:
        """What a column has, which must be text.

        Raises:
            UserError: Naming the row.
        """
        if column not in self.values:
            raise self.wrong(f"has no {column!r}")
        found = self.values[column]
        if not isinstance(found, str):
            raise self.wrong(f"{column} is {quoted(found)}, not text")
        return found

    def wrong(self, problem: str) -> UserError:
        """An error that names the row."""
        return UserError(self.place, problem, fix=self.fix)


@dataclass(frozen=True)
class Source:
    """Rows that were opened and not yet read, one after another, so that none after the last that is wanted is.

    Attributes:
        path: A file, a folder or the name of a data set.
        content: The bytes of a file of lines; None for a table.
        table: The rows of a table or data set; None for a file of lines.
        fix: What a right line looks like, for errors.
    """

    path: str
    content: bytes | None
    table: Dataset | None
    fix: str = ""

    @staticmethod
    def open(path: str, split: str | None = None, folders: bool = False, fix: str = "") -> Source:
        """Open what a path names.

        Args:
            path: A .csv or .parquet file, any other file as lines of JSON; or, where no file is, `owner/name`.
            split: Which split of a data set; None: its only one.
            folders: Whether it may be a folder that `Dataset.save_to_disk` wrote.
            fix: What a right line looks like.

        Raises:
            UserError: It cannot be read as what its name says.
        """
        if _is_on_the_hub(path) or (folders and _is_saved(path)):
            return Source(path, None, _data_set(path, split), fix)
        content = read_bytes(path, "task.path")  # refuses what is no file
        kind = _TABLES.get(PurePath(path).suffix)
        return Source(path, content, _table(path, kind) if kind else None, fix)

    @property
    def is_data_set(self) -> bool:
        """Whether it is no file, whose bytes could name it."""
        return self.content is None

    @property
    def columns(self) -> list[str] | None:
        """Columns of a table; None for a file of lines, where each has its own."""
        return None if self.table is None else list(self.table.column_names)

    def require(self, columns: Collection[str]) -> None:
        """Refuse a table without these columns; lines are looked at one by one.

        Raises:
            UserError: Naming the first that is not there, and those that are.
        """
        for column in columns:
            if self.columns is not None and column not in self.columns:
                raise UserError(self.path, f"has no column {column!r}", self.columns)

    def digest(self, columns: Collection[str]) -> str:
        """What its rows depend on: a file's bytes, or what a data set has in some columns."""
        if self.content is not None:
            return sha256(self.content).hexdigest()
        rows = ("\x1f".join(str(row.values.get(column)) for column in columns) for row in self.rows())
        return sha256("\n".join(rows).encode()).hexdigest()

    def rows(self) -> Iterator[Row]:
        """The rows.

        Raises:
            UserError: Naming the line that is no JSON object.
        """
        if self.table is None:
            assert self.content is not None
            yield from _lines(self.path, self.content, self.fix)
            return
        for number, values in enumerate(self.table, start=1):
            yield Row(f"{self.path}, row {number}", number, values, self.fix)


def _is_on_the_hub(path: str) -> bool:
    """Whether a path names a data set: `owner/name`, where no file is."""
    known = PurePath(path).suffix in (".jsonl", ".json", ".txt", *_TABLES)
    return bool(_HUB_NAME.fullmatch(path)) and not known and not os.path.lexists(path)


def _is_saved(path: str) -> bool:
    return any((Path(path) / name).is_file() for name in _SAVED)


def _lines(path: str, content: bytes, fix: str) -> Iterator[Row]:
    """The lines of a jsonl file, one object a line; empty lines are left out."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        place, line = f"{path}, line {number}", line.removesuffix(b"\r")
        if len(line) > _LONGEST_LINE:
            raise UserError(place, f"has {len(line):,} bytes, more than {_LONGEST_LINE:,}", fix=fix)
        if b"\r" in line:
            raise UserError(place, "has a carriage return within", fix="end lines with a line feed")
        try:
            values = parse_object(line.decode())
        except UnicodeDecodeError as error:
            raise UserError(place, f"is not text in UTF-8 ({error.reason})") from error
        except ValueError as error:
            raise UserError(place, str(error), fix=fix) from error
        yield Row(place, number, values, fix)


def _table(path: str, kind: str) -> Dataset:
    """The rows of a csv or parquet file.

    Raises:
        UserError: It cannot be read as what its name says.
    """
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
    return table


def _data_set(name: str, split: str | None) -> Dataset:
    """The rows of a data set on the hub, in the cache of `datasets`, or in a folder.

    Raises:
        UserError: It cannot be read, or has several splits of which none is named.
    """
    from datasets import Dataset, load_dataset, load_from_disk

    saved = _is_saved(name)
    try:
        splits: Any = load_from_disk(name) if saved else load_dataset(name)
    except Exception as error:
        problem = f"there is no file {quoted(name)}, and no such data set can be read ({reason(error)})"
        raise UserError("task.path", problem) from error
    splits = {"train": splits} if isinstance(splits, Dataset) else splits
    if split is None and len(splits) > 1:
        raise UserError("task.split", f"{name} has several splits, and none is named", splits)
    if split is not None and split not in splits:
        raise UserError("task.split", f"{name} has no split {quoted(split)}", splits)
    found: Dataset = splits[split or next(iter(splits))]
    return found
