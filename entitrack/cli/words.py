"""Settings given in Python as the words of a command line, so that both are composed, checked and recorded alike.

`{"choose": {"by": "fdr"}}` below `method` is `method.choose.by=fdr`; texts that the words' grammar would take for
something else are quoted; `${...}` within them points to other settings, as on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from entitrack.cli.quoting import text_word
from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks

Keep = Callable[[Circuit | Masks], str]
"""Writes what another run found to a file, and gives its path."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def words_of(key: str, value: Any, keep: Keep) -> Iterator[str]:
    """The words that set a key; a mapping sets the keys below it, and leaves others of them alone.

    Args:
        key: The key, with dots.
        value: Texts, numbers, truths, None, paths, circuits, masks, and lists and mappings of them.
        keep: What becomes of circuits and masks.

    Raises:
        UserError: Something is none of these.
    """
    if not isinstance(value, Mapping):
        yield f"{key}={_written(value, key, keep)}"
        return
    for name, entry in value.items():
        yield from words_of(f"{key}.{_name(name, key)}", entry, keep)


def _name(name: object, key: str) -> str:
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        raise UserError(key, f"{name!r} is no key", fix="keys are letters, digits, '_' and '-'")
    return name


def _written(value: Any, key: str, keep: Keep) -> str:
    """A value as the grammar of words has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, (Circuit, Masks)):
        return text_word(keep(value))
    if isinstance(value, (str, PathLike)):
        return text_word(str(fspath(value)))
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_written(entry, f'{key}.{place}', keep) for place, entry in enumerate(value))}]"
    if isinstance(value, Mapping):
        entries = (f"{_name(name, key)}:{_written(entry, f'{key}.{name}', keep)}" for name, entry in value.items())
        return f"{{{','.join(entries)}}}"
    fix = "give texts, numbers, lists, dicts, paths, a Circuit or Masks"
    raise UserError(key, f"a setting is never of type {type(value).__name__}", fix=fix)
