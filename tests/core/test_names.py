"""What may be a name: of a group, of a role, of a desideratum."""

from __future__ import annotations

import pytest

from entitrack.core.errors import UserError
from entitrack.core.names import check_name


@pytest.mark.parametrize("name", ["a", "7", "value_fetcher", "a.b c-d_", "x" * 64])
def test_what_may_be_a_name_is_one(name: str) -> None:
    assert check_name(name, "here", ("base",)) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * 65, "is no name; a name has letters, .* at most 64"),
        ("", "is no name"),
        (" a", "is no name"),
        ("a ", "is no name"),
        ("_a", "is no name"),
        ("a/b", "is no name"),
        (3, "3 is not a name; a name is text"),
        ("base", "nothing may be called 'base'"),
    ],
)
def test_what_may_not_is_refused_in_its_place(name: object, says: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*{says}"):
        check_name(name, "here", ("base",))
