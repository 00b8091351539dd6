"""What settings take and do, in words: for `--help`, and for errors."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_KINDS = {str: "text", int: "whole number", float: "number", bool: "true | false", type(None): "null", dict: "section"}
_LONG_NUMBER = 10**9


@dataclass(frozen=True)
class OnlyWith:
    """Marks a setting that counts only where another one, declared before it, has one value.

    Elsewhere it is refused if it is not its default: nothing is recorded that was not followed.

    Attributes:
        name: The other setting.
        value: The value that it must have.
    """

    name: str
    value: str

    @classmethod
    def of(cls, field: FieldInfo) -> OnlyWith | None:
        """What a field is marked with."""
        return next((entry for entry in field.metadata if isinstance(entry, cls)), None)


@dataclass(frozen=True)
class Setting:
    """One setting, as `--help` shows it.

    Attributes:
        key: Its key, below the section's; `N` stands for a number in a list, `NAME` for a name.
        value: Its value as YAML would have it; None also where there is none of its own, as within a list.
        takes: What it takes: choices, a kind of value, limits of a number.
        help: What it does, in a line.
        one_of_several: It is there for each entry of a list or of named things, and has no value of its own.
    """

    key: str
    value: Any
    takes: str
    help: str
    one_of_several: bool = False


def describe(settings: type[BaseModel], values: Mapping[str, Any]) -> Iterator[Setting]:
    """Every setting of a class with its value, in order; those of nested classes follow under dotted keys.

    Args:
        settings: The class.
        values: Plain values by key, such as `entitrack.core.settings.defaults` gives.
    """
    for name, field in settings.model_fields.items():
        value = values.get(name)
        yield Setting(name, value, taken(field), field.description or "")
        kind = single(field.annotation)
        entry_of = {list: ".N", dict: ".NAME"}.get(get_origin(kind), "")
        inner = single(get_args(kind)[-1]) if entry_of else kind
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            given = value if isinstance(value, Mapping) and not entry_of else {}
            for entry in describe(inner, given):
                several = bool(entry_of) or entry.one_of_several
                yield Setting(f"{name}{entry_of}.{entry.key}", entry.value, entry.takes, entry.help, several)


def taken(field: FieldInfo) -> str:
    """What a field takes, in words: its choices, or its kind and the limits of its numbers; and where it counts."""
    condition = OnlyWith.of(field)
    where = f"with {condition.name}={condition.value} only" if condition else ""
    return ", ".join(words for words in (_kind_in_words(field.annotation), interval(field), where) if words)


def _kind_in_words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is Annotated:
        return _kind_in_words(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(_kind_in_words, arguments))
    if origin in (list, tuple):
        entry = _kind_in_words(arguments[0])
        return f"list of {entry}s" if entry.endswith(("number", "section")) else f"list of {entry}"
    return _KINDS.get(origin or annotation, "section")


def single(annotation: Any) -> Any:
    """A type without null and without limits, unless there are several left."""
    if get_origin(annotation) is Annotated:
        return single(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        several = [entry for entry in get_args(annotation) if entry is not type(None)]
        return single(several[0]) if len(several) == 1 else annotation
    return annotation


def interval(field: FieldInfo) -> str:
    """The numbers that a field takes, in words: `0 or more and 1 or less`; empty if all."""
    words = []
    for bound in (*field.metadata, *_nested_metadata(field.annotation)):
        match bound:
            case Gt(gt=number):
                words.append(f"above {_number(number)}")
            case Ge(ge=number):
                words.append(f"{_number(number)} or more")
            case Lt(lt=number):
                words.append(f"below {_number(number)}")
            case Le(le=number):
                words.append(f"{_number(number)} or less")
    return " and ".join(words)


def _number(number: Any) -> str:
    return str(number) if isinstance(number, int) and abs(number) < _LONG_NUMBER else f"{number:g}"


def _nested_metadata(annotation: Any) -> Iterator[Any]:
    """What `Annotated` says inside of a type, such as the limits of a list's entries."""
    for entry in getattr(annotation, "__metadata__", ()):
        yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)
    for argument in get_args(annotation):
        yield from _nested_metadata(argument)
