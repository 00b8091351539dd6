"""What a name may be: of a circuit's groups, of stages, of the members of a family, of desiderata.

A name becomes a row of a table, a key of an array, a label of a figure, a metric of W&B and a word of the command line.
One rule suits all of them: letters, digits, `_`, `-`, `.` and spaces within; the first character is a letter or a
digit (matplotlib leaves labels that begin with `_` out of legends). `/` joins names into keys, so none contains it.
"""

from __future__ import annotations

import re
from collections.abc import Container

from entitrack.core.errors import UserError, quoted

LONGEST = 64
"""Most characters of a name."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_. -]*[A-Za-z0-9_.-])?")
_RULE = f"letters, digits, '_', '-', '.' and spaces within, at most {LONGEST}, a letter or a digit first"


def check_name(name: object, place: str, reserved: Container[str] = ()) -> str:
    """A name, if it may be one.

    Args:
        name: What is given as a name.
        place: The config key, or the file and the entry of it, that gives the name.
        reserved: Names that stand for something else where this one will stand.

    Raises:
        UserError: It is not text, is too long, has characters that names do not have, or is reserved.
    """
    if not isinstance(name, str):
        raise UserError(place, f"{quoted(name)} is not a name", fix="a name is text")
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        raise UserError(place, f"{quoted(name)} is no name", fix=f"a name has {_RULE}")
    if name in reserved:
        raise UserError(place, f"nothing may be called {name!r}: results have an entry of that name")
    return name
