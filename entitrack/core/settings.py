"""Settings, declared once: name, type, default, limits and a line of help; YAML, `--help`, errors and Python follow.

1. A settings class derives from `Settings`; each field is a `pydantic.Field` with a default, limits and a description.
2. Made in Python or from a configuration, it is checked, and what is wrong is one line that names the key.
3. `default_of` gives the defaults that Hydra composes, `describe` the lines that `--help` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from entitrack.cli.schema import NO_VALUE, shown, unknown_key
from entitrack.core.errors import UserError

_LOWER_BOUNDS = {"greater_than", "greater_than_equal"}
_BOUNDS = _LOWER_BOUNDS | {"less_than", "less_than_equal"}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a section",
    "model": "a section",
    "finite": "a finite number",
}
"""Kind of a value, as the first word of pydantic's error types -> what was wanted, in words."""

_making: ContextVar[bool] = ContextVar("making", default=False)
"""Whether settings are being made, so that those made meanwhile are parts of them."""


class Settings(BaseModel):
    """Base of all settings classes.

    Attributes:
        place: Key of the configuration that such an object is the value of; empty for the whole of it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, coerce_numbers_to_str=True
    )
    place: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        outermost = not _making.get()
        token = _making.set(True)
        try:
            super().__init__(**values)
        except ValidationError as error:
            if not outermost:
                raise  # the settings that this is a part of know the whole key
            raise _explain(type(self), error.errors(include_url=False)) from None
        finally:
            _making.reset(token)

    @field_validator("*", mode="before")
    @classmethod
    def _takes_no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = set(_plain_types(cls.model_fields[str(info.field_name)].annotation))
        several = value if isinstance(value, (list, tuple)) else [value]
        if bool not in kinds and kinds & {int, float} and any(isinstance(entry, bool) for entry in several):
            raise ValueError(f"{shown(value)} is not {_KINDS['int' if int in kinds else 'float']}")
        return value


class MethodSettings(Settings):
    """Base of what a method may be told."""

    place: ClassVar[str] = "method"


def _plain_types(annotation: Any) -> Iterator[Any]:
    """The types that a type is put together from, without those that choices have."""
    if not get_args(annotation):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _plain_types(argument)


def _explain(settings: type[Settings], errors: Sequence[ErrorDetails]) -> UserError:
    """What is wrong with the first value that is wrong, and what its key takes."""
    error, location = errors[0], _location(errors[0])
    key = ".".join(str(part) for part in (settings.place, *location) if part != "")
    kind, given = error["type"], error["input"]
    if isinstance(error.get("ctx", {}).get("error"), UserError):
        return error["ctx"]["error"]
    if kind == "extra_forbidden":
        holder = _class_at(settings, error["loc"][:-1])
        return unknown_key(key.rpartition(".")[0], location[-1], list(holder.model_fields) if holder else [])
    if kind == "missing" or given == NO_VALUE or given is None:
        return UserError(key, "has no value", fix="set it")
    alternatives = [other for other in errors if _location(other) == location]
    if len(alternatives) > 1:
        wanted = " nor ".join(_alternative(other, _field_at(settings, other["loc"])) for other in alternatives)
        return UserError(key, f"{shown(given)} is neither {wanted}")
    if kind == "literal_error":
        known = str(error["ctx"]["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return UserError(key, f"unknown {_thing(location)} {shown(given)}", known)
    field = _field_at(settings, error["loc"])
    if kind in _BOUNDS and field is not None:
        return UserError(key, f"{shown(given) if isinstance(given, int) else given} is not {interval(field)}")
    if kind == "too_short":
        return UserError(key, "there are none")
    if kind.startswith("bool"):
        return UserError(key, f"{shown(given)} is neither true nor false")
    if kind == "value_error":
        return UserError(key, str(error["ctx"]["error"]))
    wanted = next((words for name, words in _KINDS.items() if kind.startswith(name)), "")
    return UserError(key, f"{shown(given)} is not {wanted}" if wanted else f"{shown(given)}: {error['msg']}")


def _location(error: ErrorDetails) -> list[str | int]:
    """Keys and numbers that lead to a wrong value, without the types that were tried."""
    return [part for part in error["loc"] if isinstance(part, int) or not _is_branch(part)]


def _alternative(error: ErrorDetails, field: FieldInfo | None) -> str:
    """One of several things that a value could have been, in words: `'auto'`, `a number above 0`."""
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    kind = str(error["loc"][-1]).removeprefix("constrained-")
    return f"{_KINDS.get(kind, kind)} {interval(field) if field else ''}".strip()


def _is_branch(part: str | int) -> bool:
    """Whether a part of an error's location is the name of a type that was tried, not a key."""
    return isinstance(part, str) and (part in {"int", "float", "str", "bool", "none"} or "[" in part or "-" in part)


def _thing(location: list[str | int]) -> str:
    """What stands at a place, as a noun: `form`, and `component` for an entry of `components`."""
    name = str(next((part for part in reversed(location) if isinstance(part, str)), "value")).replace("_", " ")
    return name.removesuffix("s") if isinstance(location[-1], int) else name


def _class_at(settings: type[Settings], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The settings class at a place below another."""
    holder: type[BaseModel] | None = settings
    for part in location:
        if isinstance(part, int) or holder is None or part not in holder.model_fields:
            continue
        holder = next(iter(_classes_in(holder.model_fields[part].annotation)), None)
    return holder


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings classes that a type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes_in(argument)


def _field_at(settings: type[Settings], location: tuple[str | int, ...]) -> FieldInfo | None:
    names = [number for number, part in enumerate(location) if isinstance(part, str) and not _is_branch(part)]
    holder = _class_at(settings, location[: names[-1]]) if names else None
    return holder.model_fields.get(str(location[names[-1]])) if holder else None


def interval(field: FieldInfo) -> str:
    """The numbers that a field takes, in words: `0 or more and 1 or less`; empty if all."""
    words = []
    for bound in (*field.metadata, *_nested_metadata(field.annotation)):
        match bound:
            case Gt(gt=number):
                words.append(f"above {number:g}")
            case Ge(ge=number):
                words.append(f"{number:g} or more")
            case Lt(lt=number):
                words.append(f"below {number:g}")
            case Le(le=number):
                words.append(f"{number:g} or less")
    return " and ".join(words)


def _nested_metadata(annotation: Any) -> Iterator[Any]:
    """What `Annotated` says inside of a type, such as the limits of a list's entries."""
    for entry in getattr(annotation, "__metadata__", ()):
        yield from entry.metadata if isinstance(entry, FieldInfo) else (entry,)
    for argument in get_args(annotation):
        yield from _nested_metadata(argument)


def defaults(settings: type[Settings]) -> dict[str, Any]:
    """The defaults as plain values; `???` where a value must be given."""
    found: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        found[name] = "???" if value is PydanticUndefined else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


@dataclass(frozen=True)
class Setting:
    """One setting, as `--help` shows it.

    Attributes:
        key: Its key, below the section's.
        default: Its default as YAML would have it; `???` where it must be given.
        takes: What it takes: choices, or limits of a number; empty for anything of its type.
        help: What it does, in a line.
    """

    key: str
    default: Any
    takes: str
    help: str


def describe(settings: type[Settings]) -> list[Setting]:
    """Every setting of a class, in order; those of nested classes follow under dotted keys."""
    listed = []
    values: Mapping[str, Any] = defaults(settings)
    for name, field in settings.model_fields.items():
        listed.append(Setting(name, values[name], _taken(field), field.description or ""))
        for nested in _classes_in(field.annotation):
            inner = nested.model_fields
            for key, entry in inner.items():
                listed.append(Setting(f"{name}.{key}", "", _taken(entry), entry.description or ""))
    return listed


def _taken(field: FieldInfo) -> str:
    """What a field takes, in words: its choices, and the limits of its numbers."""
    alternatives = [*map(str, _choices(field.annotation)), interval(field)]
    return " | ".join(words for words in alternatives if words)


def _choices(annotation: Any) -> Iterator[Any]:
    """The values that `Literal` types in a type list."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
        return
    for argument in get_args(annotation):
        yield from _choices(argument)
