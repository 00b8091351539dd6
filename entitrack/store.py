"""Finished work, kept by its content: what was computed once is never computed again.

A unit of work is one intervention on one batch. Its key is a digest of everything that its result depends on: the
intervention and the code it ships, the model's weights, every input tensor, and the versions of the libraries. Units
are files that appear whole or not at all, so a run may be killed at any moment and picks up where it was. For units
that a server works on, the job is noted beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

CODE = Path(__file__).parent / "engine"
LIBRARIES = ("torch", "transformers", "nnsight")


@dataclass(frozen=True)
class Store:
    """A folder of finished units.

    Attributes:
        root: The folder; made when the first unit is kept.
    """

    root: Path

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of a unit, or None. A damaged file counts as absent and is removed."""
        path = self._path(key)
        try:
            return torch.load(path, weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:
            path.unlink(missing_ok=True)
            return None

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a unit; a job that was running for it is forgotten."""
        with _appearing(self._path(key)) as stream:
            torch.save(dict(result), stream)
        self.forget_job(key)

    def has(self, key: str) -> bool:
        """Whether the result of a unit is there."""
        return self._path(key).is_file()

    def job(self, key: str) -> dict[str, Any] | None:
        """What was noted of the job that runs for a unit on a server, or None."""
        try:
            return json.loads(self._job_path(key).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def note_job(self, key: str, record: Mapping[str, Any]) -> None:
        """Note the job that runs for a unit, so that it can be collected even if this process dies."""
        with _appearing(self._job_path(key)) as stream:
            stream.write(json.dumps(dict(record)).encode())

    def forget_job(self, key: str) -> None:
        """Forget the job of a unit, if there is one."""
        self._job_path(key).unlink(missing_ok=True)

    def job_count(self) -> int:
        """Number of jobs that are noted."""
        return sum(1 for _ in (self.root / "jobs").glob("*.json"))

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key[2:]}.pt"

    def _job_path(self, key: str) -> Path:
        return self.root / "jobs" / f"{key}.json"


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there with all of its content, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unit_key(function: str, model: str, device: str, inputs: Mapping[str, Any]) -> str:
    """The key of one intervention on one batch.

    Args:
        function: Qualified name of the intervention.
        model: The model's fingerprint.
        device: What it runs on; results differ in the last digits between devices.
        inputs: The intervention's arguments: tensors and plain values, in any nesting.
    """
    digest = hashlib.sha256()
    for part in (function, model, device, code_digest()):
        digest.update(part.encode() + b"\0")
    for piece in _pieces(inputs):
        digest.update(piece)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """A digest of the interventions' source and of the libraries' versions."""
    digest = hashlib.sha256()
    for file in sorted(CODE.glob("*.py")):
        digest.update(file.read_bytes())
    digest.update(json.dumps({name: version(name) for name in LIBRARIES}).encode())
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes of a nested value, unambiguously."""
    if isinstance(value, Tensor):
        yield f"tensor/{value.dtype}/{tuple(value.shape)}/".encode()
        yield value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.numel() else b""
    elif isinstance(value, Mapping):
        yield f"map/{len(value)}/".encode()
        for name in sorted(value, key=str):
            yield f"{type(name).__name__}:{name}=".encode()
            yield from _pieces(value[name])
    elif isinstance(value, (list, tuple)):
        yield f"list/{len(value)}/".encode()
        for entry in value:
            yield from _pieces(entry)
    elif value is None or isinstance(value, (str, int, float, bool)):
        yield f"{type(value).__name__}:{value!r}/".encode()
    else:
        raise TypeError(f"cannot make a key of {type(value).__name__}")
