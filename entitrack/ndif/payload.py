"""What travels: a session by value, the model by name, and results."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nnsight
import torch
import zstandard
from nnsight.modeling import huggingface
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing.backend import Backend
from nnsight.tracing.tracer import Tracer

from entitrack.backends import Unit, open_session
from entitrack.models.family import Model


class CorruptResult(Exception):
    """A result that cannot be read."""


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
    open_session(unit.model.envoy, unit.function, unit.inputs, backend=packer)
    return packer.blob


def unpack(content: bytes) -> dict[str, Any]:
    """The result of a session from what the server keeps of it: plain containers of tensors, and nothing else.

    Raises:
        CorruptResult: It is not whole.
    """
    try:
        plain = zstandard.ZstdDecompressor().decompress(content)
        saved = torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
        return dict(saved["result"])
    except (zstandard.ZstdError, zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CorruptResult(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise CorruptResult(f"it does not hold a result ({type(error).__name__}: {error})") from error


class _StateReader(pickle.Unpickler):
    """Reads a job's state, and makes no object but that."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != (Status.__module__, Status.__qualname__):
            raise CorruptResult(f"the server sent {module}.{name} with a job's state")
        return super().find_class(module, name)


def unpack_state(content: bytes) -> ResponseModel:
    """A job's state that came in binary form because the result is in it.

    Raises:
        CorruptResult: There is more in it than that.
    """
    reader = SimpleNamespace(Unpickler=_StateReader, __name__="pickle")
    return ResponseModel(**torch.load(io.BytesIO(content), pickle_module=reader, weights_only=False))


def envelope(model: Model) -> RequestModel:
    """How a request names the model: its key, and the adapter and attention that the server applies to it.

    The session id is empty: nobody listens, the job's state is asked for.
    """
    return RequestModel(model_key=model_key(model), compress=True, env=model.envoy._remoteable_get_env())


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
    except ValueError:
        return kind, rest, "main", "", False
    own_code = bool(named.get("trust_remote_code"))
    return kind, named.get("repo_id") or "", named.get("revision") or "main", named.get("task") or "", own_code
