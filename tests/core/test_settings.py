"""What every settings class takes: what was meant, and nothing that was not."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from entitrack.core.errors import UserError
from entitrack.core.settings import Settings, read


class Some(Settings):
    """Settings of a test."""

    name: str = Field("a", description="a text")
    share: float = Field(0.5, ge=0, description="a number")


class Broken(Settings):
    """Settings whose default cannot be."""

    share: float = Field(-1.0, ge=0, description="a number")


def test_numbers_that_stand_for_texts_are_texts() -> None:
    """A folder or a model may be called 7."""
    assert read(Some, {"name": 7}).name == "7"


@pytest.mark.parametrize(("given", "says"), [({"nope": 1}, "nope: unknown key"), ({"share": "inf"}, "share: ")])
def test_what_is_no_setting_or_no_number_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=f"^{says}"):
        read(Some, given)


def test_settings_are_not_changed_once_they_are_made() -> None:
    made = Some()
    with pytest.raises(ValidationError, match="frozen"):
        made.share = 0.25  # type: ignore[misc]
    assert made.share == 0.5


def test_defaults_are_held_to_their_limits() -> None:
    with pytest.raises(UserError, match="share: -1"):
        Broken()
