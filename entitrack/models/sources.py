"""Where a model comes from, and what libraries say of it in one line of our own."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError
from entitrack.models.checkpoint import Checkpoint, resolve

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LONGEST = 400
OWN_CODE = "it brings code of its own, which is never run"
_PLAINLY = {
    "Weights only load failed": "a pickled file is damaged, or holds more than tensors, which is never run",
    "contains custom code": OWN_CODE,
}
"""What libraries say where their advice is none to follow -> what is said instead."""


@dataclass(frozen=True)
class AdapterSource:
    """An adapter whose place is known to look right.

    Attributes:
        place: The config key that names it.
        path: Folder or hub name.
        revision: Revision on the hub.
        merged: It is added to the weights.
    """

    place: str
    path: str
    revision: str | None = None
    merged: bool = False

    @property
    def manner(self) -> str:
        """What becomes of it, in a word."""
        return "merged" if self.merged else "kept"


@dataclass(frozen=True)
class Source:
    """A checkpoint whose places are known to look right.

    Attributes:
        place: The config key of the member.
        path: Folder or hub name of the model.
        adapters: Its adapters, in the order in which they are attached.
        revision: Revision on the hub.
        gguf: The file that the folder was unpacked from, if it was.
        quantisation: How bitsandbytes holds the weights, if it does.
    """

    place: str
    path: str
    adapters: tuple[AdapterSource, ...] = ()
    revision: str | None = None
    gguf: Path | None = None
    quantisation: str | None = None

    @classmethod
    def of(cls, name: str, checkpoint: Checkpoint) -> Source:
        """The source of a member.

        Raises:
            UserError: A folder or a file is not there, or a gguf cannot be read.
        """
        from entitrack.models.gguf import checkpoint_of, gguf_file

        place = f"model.members.{name}"
        adapters = []
        for number, adapter in enumerate(checkpoint.every_adapter):
            key, whole = (f"{place}.adapters.{number}", f"{place}.adapters.{number}.path")
            if checkpoint.adapter is not None:
                key = whole = f"{place}.adapter"
            adapters.append(AdapterSource(key, resolve(adapter.path, whole), adapter.revision, adapter.merged))
        gguf = gguf_file(checkpoint.path, f"{place}.path")
        path = str(checkpoint_of(gguf, f"{place}.path")) if gguf else resolve(checkpoint.path, f"{place}.path")
        return cls(place, path, tuple(adapters), checkpoint.revision, gguf, checkpoint.quantisation)

    @property
    def merged(self) -> tuple[AdapterSource, ...]:
        """The adapters that are added to the weights; with them, the weights are others."""
        return tuple(adapter for adapter in self.adapters if adapter.merged)

    @property
    def kept(self) -> tuple[AdapterSource, ...]:
        """The adapters that stay beside the weights."""
        return tuple(adapter for adapter in self.adapters if not adapter.merged)

    @property
    def options(self) -> dict[str, Any]:
        """What every `from_pretrained` is told."""
        return {"revision": self.revision, "trust_remote_code": False}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, peft and the hub's client off the terminal: what matters is refused, in one line."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    before, before_hub = logging.get_verbosity(), hub.get_verbosity()
    hub.set_verbosity(hub.CRITICAL)
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
        hub.set_verbosity(before_hub)


@contextmanager
def explained(place: str, what: str) -> Iterator[None]:
    """Make one line of whatever is raised within: at broken files libraries raise every kind of error.

    Raises:
        UserError: In place of it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(place, f"cannot load {what} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line: its first, and the next where the first only announces it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {str(error.filename)!r}" if error.filename else error.strerror
    lines = [CONTROL.sub(" ", line).strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line] or [type(error).__name__]
    known = next((words for marker, words in _PLAINLY.items() if marker in lines[0]), None)
    if known:
        return known
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if isinstance(error, KeyError):
        said = f"{said} is missing, or not known"
    return said if len(said) <= _LONGEST else said[:_LONGEST] + "..."


def check_object(path: Path) -> None:
    """Refuse a file that is there and holds no JSON object.

    Raises:
        ValueError: It does not.
    """
    if path.exists() and not isinstance(json.loads(path.read_bytes()), dict):
        raise ValueError("it is no JSON object")
