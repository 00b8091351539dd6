"""Files that a user names: read whole, if they are files at all and of a size that someone may have written."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError, quoted

MOST_BYTES = 1 << 28
"""A larger file is refused: no circuit, no masks and no prompts are as long as this."""
_DEEPEST = 64
"""Levels of nesting in a JSON file."""


def read_bytes(path: str, place: str) -> bytes:
    """The content of a file.

    Args:
        path: Where it is.
        place: The config key that named it.

    Raises:
        UserError: It is not there, is no file (a folder, a pipe, a device), is too large, or cannot be read.
    """
    if not path:
        raise UserError(place, "is empty", fix="give the path of a file")
    try:
        # Not Path.is_file: it calls an unreadable place absent. And a pipe must not be opened: that waits for a writer.
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise UserError(place, f"{quoted(path)} is {kind}", fix="give the path of a file")
        if found.st_size > MOST_BYTES:
            raise UserError(place, f"{quoted(path)} has {found.st_size:,} bytes, more than {MOST_BYTES:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(place, f"cannot read {quoted(path)} ({error.strerror})") from error
    except ValueError as error:  # a null byte in the path
        raise UserError(place, f"cannot read {quoted(path)} ({error})") from error


def read_json(path: str, place: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        path: Where it is.
        place: The config key that named it.

    Raises:
        UserError: See `read_bytes`, at `place`; see `parse_object`, at the file.
    """
    content = read_bytes(path, place)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}", f"is not text in UTF-8 ({error.reason})") from error
    try:
        return parse_object(text)
    except ValueError as error:
        raise UserError(path, str(error)) from error


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object, read strictly.

    Raises:
        ValueError: It says what is wrong: no JSON, not an object, a key twice, `NaN` or `Infinity`, nested too deep.
    """
    try:
        record = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error})") from error
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {_DEEPEST} levels") from error
    if not isinstance(record, dict):
        raise ValueError(f"is not a JSON object but {quoted(record)}")
    _check_depth(record)
    return record


def _check_depth(record: Any) -> None:
    """Refuse what nests so deep that it could be read, but not written again."""
    level: list[Any] = [record]
    for _ in range(_DEEPEST):
        level = [
            part
            for value in level
            if isinstance(value, (dict, list))
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"is nested deeper than {_DEEPEST} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The entries of an object, of which one that is there twice would hide another."""
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError(f"has the key {quoted(first_repeated(key for key, _ in pairs))} twice")
    return record


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"has {name}, which is not a number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), -float("inf")):
        raise ValueError(f"has the number {quoted(text)}, which is too large")
    return number


def first_repeated(entries: Iterable[Any]) -> Any:
    """The first of some entries that is there a second time; None if there is none."""
    seen = set()
    for entry in entries:
        if entry in seen:
            return entry
        seen.add(entry)
    return None


def take(record: dict[str, Any], key: str, kind: type, otherwise: Any = None) -> Any:
    """An entry of an object, of a type.

    Raises:
        ValueError: It is not there, or of another type.
    """
    value = record.get(key, otherwise)
    if value is None:
        raise ValueError(f"has no {key!r}")
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {quoted(value)}, not {_KINDS[kind]}")
    return value


_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
