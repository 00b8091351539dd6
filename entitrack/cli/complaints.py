"""What the program says of itself on standard error: one line, whatever is in it, and no key."""

from __future__ import annotations

import os
import sys
import unicodedata
from contextlib import suppress
from typing import IO

from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError

_LONGEST = 2000
_ODD = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of characters that control a terminal, turn text around or break a line."""


def complain(line: str, keys: Keys) -> None:
    """Print one line to standard error; if there is no place for it, it is not said."""
    try:
        print(f"entitrack: {one_line(keys.hide(line))}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        silence(sys.stderr)


def one_line(text: str) -> str:
    """A text without line breaks and control characters, and not without end."""
    text = "".join(_harmless(character) for character in text.strip())
    if len(text) > _LONGEST:
        half = _LONGEST // 2 - 5
        text = f"{text[:half]} [...] {text[-half:]}"
    return text


def explain(error: BaseException) -> str | None:
    """What a person can do about an error; None for one that is the program's own."""
    if isinstance(error, UserError):
        return str(error)
    if _is_out_of_memory(error) or "can't allocate memory" in str(error):
        return "out of memory; lower batch_size, or memory"
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno)
        return f"cannot use {str(error.filename)!r} ({reason})" if error.filename is not None else f"system: {reason}"
    if isinstance(error, RecursionError):
        return "what was given is nested too deeply"
    return None


def silence(stream: IO[str] | None) -> None:
    """Let a stream that nobody reads end nowhere, so that nothing fails when the interpreter flushes it."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, here or on an accelerator; torch is not imported to tell."""
    return isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def _harmless(character: str) -> str:
    if character in "\n\r\t\v\f":
        return " "
    if unicodedata.category(character) in _ODD:
        return character.encode("unicode_escape").decode()
    return character
