"""Plain values: what JSON has, and how numbers that it has not are written.

`plain` makes a nested value plain; `encode` writes plain values so that strict JSON takes them, `decode` reads them
again. Not a number and the infinities become `{"$number": "nan"}`; an own key with `$` in front gets another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

_NUMBER = "$number"
_TEXTS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def refuse(value: object) -> Any:
    """Refuse what is no plain value.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"{type(value).__name__} is no plain value")


def plain(value: Any, otherwise: Callable[[Any], Any] = refuse) -> Any:
    """A nested value as mappings with texts as keys, lists, texts, numbers, truths and None.

    Args:
        value: The value; dataclasses become mappings, tuples lists.
        otherwise: What is made of anything else.

    Raises:
        TypeError: There is something that is not plain, and nothing is made of it.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(entry, otherwise) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, otherwise) for entry in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else otherwise(value)


def encode(value: Any) -> Any:
    """Plain values as strict JSON takes them."""
    if isinstance(value, dict):
        return {f"${name}" if name.startswith("$") else name: encode(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [encode(entry) for entry in value]
    return {_NUMBER: str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Key with dots -> encoded value, of all that are no mappings."""
    if not isinstance(value, Mapping):
        yield key, encode(value)
        return
    for name, entry in value.items():
        yield from leaves(entry, f"{key}.{name}".lstrip("."))


def decode(value: Any) -> Any:
    """What `encode` was given.

    Raises:
        ValueError: A number is none.
    """
    if isinstance(value, list):
        return [decode(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if list(value) == [_NUMBER]:
        if value[_NUMBER] not in _TEXTS:
            raise ValueError(f"has a number {value[_NUMBER]!r}, which is none")
        return _TEXTS[value[_NUMBER]]
    return {name.removeprefix("$"): decode(entry) for name, entry in value.items()}
