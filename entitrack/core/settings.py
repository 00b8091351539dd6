"""Settings, declared once: name, type, default, limits and a line of help; YAML, `--help`, errors and Python follow.

1. A settings class derives from `Settings`; each field is a `pydantic.Field` with a default, limits and a description.
2. Made in Python or read from a configuration, it is checked, and what is wrong is one line that names the key.
3. `defaults` gives what Hydra composes; `entitrack.core.settings_words.describe` gives the lines that `--help` prints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticUndefined

from entitrack.core.errors import UserError, shown, unknown_key
from entitrack.core.parts import Part
from entitrack.core.quirks import Quirk
from entitrack.core.settings_errors import KINDS, explain
from entitrack.core.settings_words import OnlyWith

__all__ = ["NO_VALUE", "MethodSettings", "OnlyWith", "Settings", "defaults", "read"]

NO_VALUE = "???"
"""What stands for a value that has to be given, in Hydra's files."""

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
            raise explain(type(self), self.place, error.errors(include_url=False)) from None
        finally:
            _making.reset(token)

    @field_validator("*", mode="before")
    @classmethod
    def _takes_values_as_they_are_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what pydantic would convert: truth into a number, and 1000.0 into a whole number."""
        if isinstance(value, str) and value == NO_VALUE:
            raise PydanticCustomError("missing", "has no value")
        kinds = set(_plain_types(cls.model_fields[str(info.field_name)].annotation))
        refused = (bool,) if float in kinds else (bool, float)
        several = value if isinstance(value, (list, tuple)) else [value]
        if bool not in kinds and kinds & {int, float} and any(isinstance(entry, refused) for entry in several):
            raise ValueError(f"{shown(value)} is not {KINDS['float' if float in kinds else 'int']}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _counts_where_it_is_given(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        condition = OnlyWith.of(field)
        other = info.data.get(condition.name) if condition else None
        if condition and other not in (None, condition.value) and value != field.get_default():
            key, problem = condition.name, f"is not used with {condition.name}={other}"
            raise ValueError(f"{problem}; leave it out, or say {key}={condition.value}")
        return value


class MethodSettings(Settings):
    """Base of what a method may be told.

    Attributes:
        needs_donor: The method brings a donor's activations into the base; a donor is refused by those that do not.
        needs_circuit: The method is about a circuit; one is refused by those that are not.
        needs_gradients: The method takes gradients, which a server gives only where it trusts a key.
        quirks: Quirks of the published code that it follows with `compat=paper`.
        leaves: Artefacts of its results, which other runs may read: `circuit`, `masks`.
        part: The contexts it runs on unless the task says others, see `entitrack.core.parts`; None: it asks no prompts.
    """

    place: ClassVar[str] = "method"
    needs_donor: ClassVar[bool] = False
    needs_circuit: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    quirks: ClassVar[Collection[Quirk]] = ()
    leaves: ClassVar[Collection[str]] = ()
    part: ClassVar[Part | None] = "judge"

    @property
    def gradients(self) -> str | None:
        """What of it takes gradients as it is set; None: nothing."""
        return "the method" if self.needs_gradients else None


SettingsT = TypeVar("SettingsT", bound=Settings)


def read(settings: type[SettingsT], given: object) -> SettingsT:
    """A section of a configuration as an object of its class.

    Raises:
        UserError: It is no section, a key is unknown or missing, or a value is not what its key takes.
    """
    if not isinstance(given, Mapping):
        keys = ", ".join(settings.model_fields)
        fix = f"its keys are {keys}" if keys else ""
        raise UserError(settings.place, f"{shown(given)} is not a section", fix=fix)
    for key in given:
        if key not in settings.model_fields:
            raise unknown_key(settings.place, key, settings.model_fields)
    return settings(**given)


def defaults(settings: type[Settings]) -> dict[str, Any]:
    """The defaults as plain values; `???` where a value must be given."""
    found: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        found[name] = NO_VALUE if value is PydanticUndefined else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


def _plain_types(annotation: Any) -> Iterator[Any]:
    """The types that a type is put together from, without those that choices have."""
    if not get_args(annotation):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from _plain_types(argument)
