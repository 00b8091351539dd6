"""What a server says, as it may be shown: one line, bounded, without control characters, and never our key."""

from __future__ import annotations

from urllib.parse import quote

_HIDDEN = "***"
LINE = 300
"""Most characters of a server's words in one of our lines."""


def one_line(text: object, most: int = LINE) -> str:
    """A text from elsewhere as one printable line of bounded length.

    Control characters, escapes, line ends, lone surrogates and marks that turn the direction of writing become spaces.
    """
    start = str(text)[: 8 * most]
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in start).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def scrub(text: str, key: str) -> str:
    """A text without a key, as it is and as it would stand in an address."""
    for form in {key, quote(key, safe="", errors="replace")} if key else ():
        text = text.replace(form, _HIDDEN)
    return text
