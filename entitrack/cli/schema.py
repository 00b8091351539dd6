"""Plain values as objects of a schema: a dataclass says which keys there are and what each takes."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any, Union, get_args, get_origin, get_type_hints

from entitrack.core.errors import UserError, shown, unknown_key
from entitrack.core.settings import NO_VALUE

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def read(given: Any, kind: Any, place: str) -> Any:
    """A plain value as what its key takes.

    Args:
        given: Nested mappings, lists, text, numbers and None.
        kind: A dataclass, `list[...]`, `dict[str, ...]`, an optional type, `str`, `int`, `float`, `bool` or `Any`.
        place: The key, with which problems are reported, however deep they are.

    Raises:
        UserError: A key is unknown or has no value, or a value is not what its key takes.
    """
    if given == NO_VALUE:
        raise UserError(place, "has no value", fix="set it")
    if is_dataclass(kind):
        return _object(given, kind, place)
    if kind is Any:
        return given
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if given is None and type(None) in get_args(kind):
            return None
        (kind,) = (entry for entry in get_args(kind) if entry is not type(None))
        return read(given, kind, place)
    if given is None:
        raise UserError(place, "has no value", fix="set it")
    if origin in (list, dict):
        return _several(given, origin, get_args(kind), place)
    return _PLAIN[kind](given, place)


def _object(given: Any, kind: Any, place: str) -> Any:
    """An object of a dataclass."""
    if not isinstance(given, Mapping):
        keys = ", ".join(entry.name for entry in fields(kind))
        raise UserError(place, f"{shown(given)} is not a section", fix=f"its keys are {keys}" if keys else "")
    hints = get_type_hints(kind)
    known = [entry.name for entry in fields(kind)]
    for key in given:
        if key not in known:
            raise unknown_key(place, key, known)
    values = {}
    for entry in fields(kind):
        key = f"{place}.{entry.name}".lstrip(".")
        if entry.name in given:
            values[entry.name] = read(given[entry.name], hints[entry.name], key)
        elif entry.default == NO_VALUE or (entry.default is MISSING and entry.default_factory is MISSING):
            raise UserError(key, "has no value", fix="set it")
    return kind(**values)


def _several(given: Any, origin: Any, inner: tuple[Any, ...], place: str) -> Any:
    """A list or mapping of values of one kind."""
    if origin is list:
        if not isinstance(given, list):
            raise UserError(place, f"{shown(given)} is not a list", fix=f"write {place}=[...]")
        return [read(entry, inner[0], f"{place}.{number}") for number, entry in enumerate(given)]
    if not isinstance(given, Mapping):
        raise UserError(place, f"{shown(given)} is not a section")
    return {str(key): read(entry, inner[1], f"{place}.{key}") for key, entry in given.items()}


def _text(given: Any, place: str) -> str:
    if isinstance(given, bool) or not isinstance(given, (str, int, float)):
        raise UserError(place, f"{shown(given)} is not text", fix="quote it" if isinstance(given, bool) else "")
    return str(given)


def _number(given: Any, place: str, kind: type, words: str) -> Any:
    """A number, also where it is written as text; a fraction is not taken for a whole number."""
    fits = isinstance(given, (str, int) if kind is int else (str, int, float)) and not isinstance(given, bool)
    try:
        if fits:
            return kind(given)
    except (ValueError, OverflowError):
        pass
    raise UserError(place, f"{shown(given)} is not a {words}")


def _truth(given: Any, place: str) -> bool:
    word = str(given).lower()
    if isinstance(given, (bool, str, int)) and word in (*_YES, *_NO):
        return word in _YES
    raise UserError(place, f"{shown(given)} is neither true nor false")


_PLAIN: dict[Any, Any] = {
    str: _text,
    int: partial(_number, kind=int, words="whole number"),
    float: partial(_number, kind=float, words="number"),
    bool: _truth,
}
