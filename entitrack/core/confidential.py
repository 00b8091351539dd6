"""Keys and passwords: found wherever they were given, and hidden wherever something is printed or recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

HIDDEN = "***"
KEY = "backend.key"
_VARIABLES = ("NDIF_API_KEY", "WANDB_API_KEY", "HF_TOKEN")
_SHORTEST = 6
"""A shorter key is hidden where it was given, but not looked for in other texts: they would become unreadable."""
_OVERRIDE = re.compile(r"^(?P<key>[+~]*[\w./@-]+)=(?P<value>.*)$", re.DOTALL)
_ENTRY = re.compile(r"""(?P<name>\bkey["']?\s*[:=]\s*)(?P<value>"[^"]*"?|'[^']*'?|[^,}\s]*)""")
_PASSWORD = re.compile(r"(?P<scheme>[a-zA-Z][\w+.-]*://)[^\s'\"]*@")
"""Everything from an address's scheme to its last @: a password may hold any character."""


class Keys:
    """The keys and passwords of one command, which may not be shown.

    Args:
        environment: Variables; the ones that hold keys are known.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._words: set[str] = set()
        for name in _VARIABLES:
            self.add(environment.get(name))

    def add(self, value: object) -> None:
        """Hide a value from now on, wherever it stands."""
        text = "" if value is None else str(value)
        self._words |= {word for word in (text, text.strip()) if len(word) >= _SHORTEST and word.strip() != HIDDEN}

    def hide(self, text: str) -> str:
        """A text without any key or password."""
        for word in sorted(self._words, key=len, reverse=True):
            text = text.replace(word, HIDDEN)
        return _PASSWORD.sub(rf"\g<scheme>{HIDDEN}@", text)

    def hide_within(self, value: Any) -> Any:
        """Plain values in any nesting, without any key or password."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {self.hide_within(name): self.hide_within(entry) for name, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.hide_within(entry) for entry in value]
        return value

    def hide_override(self, word: str) -> str:
        """A word of a command line as it may be shown; the key that it gives is hidden from now on."""
        given = _OVERRIDE.match(word)
        if given and given["key"].lstrip("+~") == KEY:
            for value in _values(word, given["value"]):
                self.add(value)
            return f"{given['key']}={HIDDEN}"
        if given and given["key"].lstrip("+~") == "backend":
            for entry in _ENTRY.finditer(word):
                self.add(entry["value"].strip("\"'"))
            word = _ENTRY.sub(rf"\g<name>{HIDDEN}", word)
        return self.hide(word)


def _values(word: str, text: str) -> Iterator[object]:
    """What an override gives, as text and as it is read: each of several values of a sweep, without quotes."""
    yield text
    yield text.strip("\"'")
    try:
        override = OverridesParser.create().parse_override(word)
        values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
        yield from (value.text if isinstance(value, QuotedString) else value for value in values)
    except (HydraException, ValueError):
        yield from text.split(",")


def hidden_key(backend: Any) -> Any:
    """A `backend` section as it may be recorded: without its key."""
    if isinstance(backend, Mapping) and backend.get("key"):
        return {**backend, "key": HIDDEN}
    return backend


def hide_words(words: Sequence[str], keys: Keys) -> list[str]:
    """A command line as it may be shown."""
    return [keys.hide(word) for word in [keys.hide_override(word) for word in words]]
