"""Texts as the grammar of words on the command line has them."""

from __future__ import annotations

import re

_BARE = re.compile(r"[A-Za-z/][A-Za-z0-9_/.-]*")
_READ_AS_SOMETHING_ELSE = {"null", "true", "false", "nan", "inf"}


def text_word(text: str) -> str:
    """A text as the grammar of words has it, quoted where it would be taken for something else."""
    if _BARE.fullmatch(text) and text.lower() not in _READ_AS_SOMETHING_ELSE:
        return text
    # a backslash stands for itself, but before a quote, also the closing one: there each takes one more
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"
