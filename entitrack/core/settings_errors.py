"""What is wrong with settings, as one line that names the key and says what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from entitrack.core.errors import UserError, shown, unknown_key
from entitrack.core.settings_words import interval, single

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a section",
    "model": "a section",
    "finite": "a finite number",
}
"""Kind of a value, as the first word of pydantic's error types -> what was wanted, in words."""
_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}


@dataclass(frozen=True)
class _Place:
    """Where a wrong value is.

    Attributes:
        keys: Keys and numbers that lead to it, without the types that were tried.
        holder: The settings class that the last key is of.
        field: The field of that key; None if there is no such key.
        kind: The type that was wanted.
    """

    keys: tuple[str | int, ...]
    holder: type[BaseModel]
    field: FieldInfo | None
    kind: Any

    @classmethod
    def of(cls, settings: type[BaseModel], location: Sequence[str | int]) -> _Place:
        """Follow pydantic's location, which names a key, a number in a list, or one of several types."""
        keys: list[str | int] = []
        holder, field, kind = settings, None, single(settings)
        for part in location:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                holder, field = kind, kind.model_fields.get(str(part))
                kind = single(field.annotation) if field else None
            elif get_origin(kind) in (list, tuple, dict):
                kind = single(get_args(kind)[-1])
            else:
                continue  # a type that was tried
            keys.append(part)
        return cls(tuple(keys), holder, field, kind)


def explain(settings: type[BaseModel], place: str, errors: Sequence[ErrorDetails]) -> UserError:
    """What is wrong with the first value that is wrong, and what its key takes; an unknown key comes before all."""
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    at = _Place.of(settings, error["loc"])
    key = ".".join(str(part) for part in (place, *at.keys) if part != "")
    if error["type"] == "extra_forbidden":
        return unknown_key(key.rpartition(".")[0], at.keys[-1], at.holder.model_fields)
    if error["type"] == "missing" or error["input"] is None:
        return UserError(key, "has no value", fix="set it")
    alternatives = [other for other in errors if _Place.of(settings, other["loc"]).keys == at.keys]
    if len(alternatives) > 1:
        wanted = " nor ".join(_alternative(other, at.field) for other in alternatives)
        return UserError(key, f"{shown(error['input'])} is neither {wanted}")
    return _wrong_value(key, error, at)


def _wrong_value(key: str, error: ErrorDetails, at: _Place) -> UserError:
    """A value that is not what its key takes."""
    kind, given = error["type"], error["input"]
    if kind == "literal_error":
        known = str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return UserError(key, f"unknown {_noun(at.keys)} {shown(given)}", known)
    if kind in _BOUNDS and at.field is not None:
        return UserError(key, f"{shown(given) if isinstance(given, int) else given} is not {interval(at.field)}")
    if kind == "too_short":
        return UserError(key, "there are none")
    if kind.startswith("bool"):
        return UserError(key, f"{shown(given)} is neither true nor false")
    if kind == "value_error":
        return UserError(key, str(error["ctx"]["error"]))
    wanted = next((words for name, words in KINDS.items() if kind.startswith(name)), "")
    return UserError(key, f"{shown(given)} is not {wanted}" if wanted else error["msg"], fix=_fix(key, error, at.kind))


def _fix(key: str, error: ErrorDetails, kind: Any) -> str:
    """What to write instead of a value of the wrong kind."""
    if error["type"].startswith("list"):
        return f"write {key}=[...]"
    if error["type"].startswith("string"):
        return "quote it" if isinstance(error["input"], bool) else ""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"its keys are {', '.join(kind.model_fields)}"
    return ""


def _alternative(error: ErrorDetails, field: FieldInfo | None) -> str:
    """One of several things that a value could have been, in words: `'auto'`, `a number above 0`."""
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    kind = str(error["loc"][-1]).removeprefix("constrained-")
    return f"{KINDS.get(kind, kind)} {interval(field) if field else ''}".strip()


def _noun(keys: Sequence[str | int]) -> str:
    """What stands at a place, as a noun: `form`, and `component` for an entry of `components`."""
    name = str(next((part for part in reversed(keys) if isinstance(part, str)), "value")).replace("_", " ")
    return name.removesuffix("s") if isinstance(keys[-1], int) else name
