"""What crosses the socket between a sandbox and the model, counted in a session that runs here.

NDIF's sandbox (`ndif` 0.1.2) sends, one message each: the session and what it saves; of every forward pass its
inputs and its output; of a value that is read the value, the same when the code moves on, an answer, and what is wanted
next; of a value that is written the value, and an answer; of a module that is called its inputs, and its output. A
tensor crosses with the whole memory that it is a view of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import Event, Interleaver, Mediator
from torch import Tensor

from entitrack.runtime.backends import Cost

OF_A_SESSION, OF_A_PASS, OF_A_READ, OF_A_WRITE, OF_A_CALL = 2, 2, 4, 2, 2
"""Messages, both ways."""
ARCHIVE = 4096
"""Bytes around the tensors of a message, about: each is an archive of its own."""
OUTPUT = "result"
"""What nnsight calls the output of a forward pass."""


@contextmanager
def counted(cost: Cost) -> Iterator[None]:
    """Count what a session that is run within would send through the socket, but for itself and what it saves."""
    ask, reach, run = Mediator.event.__func__, Interleaver.handle, Envoy.__call__  # type: ignore[attr-defined]

    def event(kind: Any, asked: Event, location: str, *given: Any) -> Any:
        """What a session reads or writes."""
        answer = ask(kind, asked, location, *given)
        if asked is Event.VALUE:
            _count(cost, OF_A_READ, 2 * _memory(answer))
        elif asked is not Event.BARRIER:
            _count(cost, OF_A_WRITE, _memory(given))
        return answer

    def handle(self: Interleaver, location: str, value: Any) -> Any:
        """What a forward pass comes by, of which its output is sent."""
        if location == OUTPUT:
            _count(cost, OF_A_PASS, _memory(value))
        return reach(self, location, value)

    def call(self: Envoy, *given: Any, **named: Any) -> Any:
        """A module that a session calls by itself."""
        output = run(self, *given, **named)
        _count(cost, OF_A_CALL, _memory((given, named)) + _memory(output))
        return output

    with (
        patch.object(Mediator, "event", classmethod(event)),
        patch.object(Interleaver, "handle", handle),
        patch.object(Envoy, "__call__", call),
    ):
        _count(cost, OF_A_SESSION, 0)
        yield


def _count(cost: Cost, messages: int, memory: int) -> None:
    cost.socket_messages += messages
    cost.socket_bytes += memory + messages * ARCHIVE


def _memory(value: Any) -> int:
    """Bytes of the memory that the tensors in a nested value are views of, each once."""
    return sum({storage.data_ptr(): storage.nbytes() for storage in _storages(value)}.values())


def _storages(value: Any) -> Iterator[Any]:
    if isinstance(value, Tensor):
        yield value.untyped_storage()
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _storages(entry)
