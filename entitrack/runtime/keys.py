"""The key of a unit of work: a digest of everything that its result depends on.

The intervention, the code of all that computes, the libraries' versions, the model, the place it runs at, and every
input with its type, shape and bytes. What is encoded differently is different, and the other way round: two values
have one encoding only if they are the same.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PACKAGE = Path(__file__).parents[1]
ONLY_SHOWS = (
    "methods/*/view.py",  # tables and figures of a method's results
    "record",  # the folder of a result, the terminal, figures, W&B
    "core/errors.py",
    "core/notices.py",
    "runtime/progress.py",
    "run.py",
    "studies.py",
    "sweep.py",
    "sweeps.py",
    "launch",
)
"""Paths in the package that numbers do not depend on, as patterns; every other one counts, and so does a new one."""

LIBRARIES = (
    *("torch", "numpy", "einops", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "nnsight"),
    *("bitsandbytes", "flash-attn", "kernels", "torchao", "triton"),
)
"""Whose code computes; those of the second line where they are installed."""


def unit_key(function: str, model_digest: str, place: str, inputs: Mapping[str, Any]) -> str:
    """The key of one intervention on one batch.

    Args:
        function: Full name of the intervention.
        model_digest: Digest of the model's identity.
        place: What it runs on; results differ in the last digits between devices.
        inputs: The intervention's arguments: tensors and plain values, in any nesting. Tuples count as lists: that is
            what interventions get.

    Raises:
        TypeError: For an input that has no bytes of its own.
    """
    digest = hashlib.sha256()
    for piece in _pieces([function, model_digest, place, code_digest(), inputs]):
        digest.update(piece)
    return digest.hexdigest()


@cache
def code_digest(package: Path = PACKAGE) -> str:
    """A digest of the code of all that computes, of the libraries' versions and of Python's.

    Args:
        package: The folder of the package.
    """
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        path = file.relative_to(package)
        if not _only_shows(path):
            for piece in _pieces([path.as_posix(), hashlib.sha256(file.read_bytes()).hexdigest()]):
                digest.update(piece)
    digest.update(json.dumps({"python": sys.version_info[:2], **{name: _version(name) for name in LIBRARIES}}).encode())
    return digest.hexdigest()


def _only_shows(path: Path) -> bool:
    """Whether a file, or a folder that it is in, is listed in `ONLY_SHOWS`."""
    return any(fnmatchcase(place.as_posix(), pattern) for place in (path, *path.parents) for pattern in ONLY_SHOWS)


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _pieces(value: Any) -> Iterator[bytes]:
    """The bytes of a nested value. Every piece tells its kind and its length, so no two values have the same."""
    if isinstance(value, Tensor):
        yield from _tensor_pieces(value)
    elif isinstance(value, Mapping):
        yield b"map/%d/" % len(value)
        for name, entry in sorted((b"".join(_pieces(name)), entry) for name, entry in _entries(value)):
            yield name
            yield from entry
    elif isinstance(value, (list, tuple)):
        yield b"list/%d/" % len(value)
        for entry in value:
            yield from _pieces(entry)
    elif isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
        yield b"str/%d/" % len(content) + content
    elif value is None or isinstance(value, bool):  # before int, which a bool is one of
        yield b"%a/" % value
    elif isinstance(value, int):
        yield b"int/%d/" % value
    elif isinstance(value, float):
        yield b"float/" + struct.pack(">d", value)  # the bits: 0.0 is not -0.0, and a NaN equals itself
    else:
        raise TypeError(f"cannot make a key of {type(value).__name__}")


def _entries(mapping: Mapping[Any, Any]) -> Iterator[tuple[Any, list[bytes]]]:
    """The entries of a mapping with the pieces of their values."""
    for name, value in mapping.items():
        yield name, list(_pieces(value))


def _tensor_pieces(tensor: Tensor) -> Iterator[bytes]:
    """Type, shape and elements, whatever the strides and wherever it is."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise TypeError(f"cannot make a key of a tensor of layout {tensor.layout} and type {tensor.dtype}")
    shape = "x".join(str(size) for size in tensor.shape)
    yield f"tensor/{tensor.dtype}/{shape}/".encode()
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().flatten().clone(memory_format=torch.contiguous_format)
    yield plain.view(torch.uint8).numpy().tobytes()
