"""What travels: a session by value, the model by name, and results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nnsight
from nnsight.modeling import huggingface
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import Tracer
from pydantic import ValidationError
from torch import Tensor

from entitrack.models.family import Model
from entitrack.runtime.backends import Unit, open_session
from entitrack.runtime.forms import DIRECT
from entitrack.runtime.ndif.archive import TooLarge, decompress, read_archive
from entitrack.runtime.ndif.pickled import CorruptResult, Maker
from entitrack.runtime.ndif.saying import one_line

MOSTRESULT = 1 << 28
"""Bytes that a result may have where nothing else is said."""

RESULT = "result"
"""What a session calls the value that it saves."""
_DEPTH = 16
_ENTRIES = 1_000_000
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class _Packer(Backend):
    """Takes a session's payload instead of running it."""

    blob: bytes = b""

    def __call__(self, tracer: Tracer) -> None:
        self.blob = RequestModel.serialize(tracer, compress=True)


def pack(unit: Unit) -> bytes:
    """The compressed payload of a unit: the session's code with all it calls, and the tensors, but not the model.

    The package is registered, so its functions travel as source: a server does not have it, and an installed package
    would otherwise be named and not sent.
    """
    nnsight.register("entitrack")
    packer = _Packer()
    open_session(unit.model.envoy, unit.code or unit.function, unit.inputs, backend=packer)
    return packer.blob


def unpack(content: bytes, most: int = MOSTRESULT) -> dict[str, Any]:
    """The result of a session from what the server keeps of it: plain containers of tensors, and nothing else.

    Args:
        content: What the server keeps: a compressed archive.
        most: Most bytes that it may unpack to.

    Raises:
        CorruptResult: It is not whole, too large, or holds something else.
    """
    saved = read_archive(decompress(content, most), most)
    if type(saved) is not dict or type(saved.get(RESULT)) is not dict or not saved[RESULT]:
        raise CorruptResult("it does not hold what the session saves")
    if not all(type(name) is str for name in saved[RESULT]):
        raise CorruptResult("it holds values without a name")
    return _Plain(most).copy(saved[RESULT])


def unpack_state(content: bytes, most: int = MOSTRESULT) -> ResponseModel:
    """A job's state that came in binary form because the result is in it.

    Raises:
        CorruptResult: It is not whole, too large, or there is more in it than that.
    """
    named = {(Status.__module__, Status.__qualname__): Maker(lambda value: Status(value))}
    return read_state(read_archive(content, most, named))


def read_state(said: Any) -> ResponseModel:
    """A job's state from plain values.

    Raises:
        CorruptResult: They are not what a state is made of.
    """
    if type(said) is not dict or not all(type(name) is str for name in said):
        raise CorruptResult("it is not a job's state")
    try:
        state = ResponseModel.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = one_line(".".join(map(str, first["loc"])), 40)
        raise CorruptResult(f"it is not a job's state ({place}: {one_line(first['msg'], 100)})") from error
    if not is_job_id(state.id):
        raise CorruptResult("it is not a job's state (id: no job has such a name)")
    return state


def is_job_id(name: Any) -> bool:
    """Whether a server may call a job so: the name becomes part of an address."""
    return isinstance(name, str) and bool(_JOB_ID.fullmatch(name))


class _Plain:
    """Copies a result, and refuses what results do not hold.

    Args:
        most: Most bytes of tensors, counted as often as they occur: a value may stand in a thousand places.
    """

    def __init__(self, most: int) -> None:
        self._most = self._bytes_left = most
        self._entries_left = _ENTRIES

    def copy(self, value: Any, depth: int = 0) -> Any:
        """A value with all that is in it."""
        self._entries_left -= 1
        if depth > _DEPTH or self._entries_left < 0:
            raise CorruptResult("it is nested too deep or has too many entries")
        if type(value) is dict:
            return {name: self.copy(entry, depth + 1) for name, entry in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.copy(entry, depth + 1) for entry in value)
        if type(value) is Tensor:
            self._bytes_left -= value.numel() * value.element_size()
            if self._bytes_left < 0:
                raise TooLarge(f"its tensors take more than {self._most:,} bytes")
            return value
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise CorruptResult("it holds something else than tensors, numbers and texts")


class Sandboxed(RequestModel):
    """A request that asks for the sandbox even where the server would do without: one that asks for no keys."""

    trusted: bool = False


def envelope(model: Model, form: str = DIRECT) -> RequestModel:
    """How a request names the model: its key, and the adapter and attention that the server applies to it.

    The session id is empty: nobody listens, the job's state is asked for.

    Args:
        model: The model.
        form: The form of the session's code.
    """
    kind = RequestModel if form == DIRECT else Sandboxed
    return kind(model_key=model_key(model), compress=True, env=model.envoy._remoteable_get_env())


def model_key(model: Model) -> str:
    """The name under which a server hosts a model.

    A name on the hub is looked up there, so that every spelling of it is the same. Where the hub cannot be asked it
    counts as spelled: if that is not what the server calls it, the server's list will show. A folder, and a name that
    the configuration gives as the server's own, are not looked up.
    """
    place, loaded_from = model.envoy.repo_id, model.envoy.args[0]
    if Path(place).is_dir() or place != loaded_from:
        huggingface._ID_CACHE.setdefault(place, place)
    try:
        return model.envoy.to_model_key()
    except Exception:
        huggingface._ID_CACHE.setdefault(place, place)
        return model.envoy.to_model_key()


def key_parts(key: str) -> tuple[str, str, str, str, bool]:
    """A model key in a form that can be compared: class, name, revision, task, whether it brings its own code."""
    kind, _, rest = key.partition(":")
    try:
        named = json.loads(rest)
    except (ValueError, RecursionError):
        return kind, rest, "main", "", False
    if not isinstance(named, dict):
        return kind, rest, "main", "", False
    name, revision, task = (str(named.get(part) or "") for part in ("repo_id", "revision", "task"))
    return kind, name, revision or "main", task, bool(named.get("trust_remote_code"))
