"""The one exception that a user is meant to read, and how what the user gave is shown in it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 80
"""Characters of a quotation."""


class UserError(Exception):
    """Something in what the user gave is wrong: shown as one line, exit code 2, no traceback.

    Args:
        place: Where it is: a config key (`donor`), a file and line, a prompt number.
        problem: What is wrong there.
        available: What exists instead, listed after the problem.
        fix: What to do about it.
    """

    def __init__(self, place: str, problem: str, available: Iterable[object] = (), fix: str = "") -> None:
        names = ", ".join(str(name) for name in available)
        parts = [f"{place}: {problem}"]
        if names:
            parts.append(f"available: {names}")
        if fix:
            parts.append(fix)
        super().__init__(printable("; ".join(parts)))


def printable(text: str) -> str:
    r"""A text with its control and invisible characters written out, such as `\n`, `\x1b` and `\u200b`."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def quoted(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value[: 2 * _LONGEST] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown(value: object) -> str:
    """A value as a message quotes it: not longer than a line, and how long it is where it is cut."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... ({len(text)} characters)"


def unknown_key(place: str, key: object, known: Iterable[str]) -> UserError:
    """A key that does not exist; says which one was probably meant."""
    known = list(known)
    close = get_close_matches(str(key), known, n=1)
    text = f"{place}.{key}".lstrip(".")
    return UserError(text, "unknown key", known, f"do you mean {close[0]}?" if close else "")


def reason(error: BaseException) -> str:
    """What an error says, in one line that is not long: `ValueError: ...`."""
    text = " ".join(str(error).split())
    short = text if len(text) <= 3 * _LONGEST else f"{text[: 3 * _LONGEST]}..."
    return f"{type(error).__name__}: {short}" if short else type(error).__name__
