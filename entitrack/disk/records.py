"""A finished unit as the bytes of a file.

The file is a safetensors file, whose header is the schema: names, types and shapes. A tensor's name is the path to it
in the result, as a JSON pointer (`/values/0`). The metadata holds

- `record`: the record's own key, and the structure of the result with all values that are no tensors, as JSON;
- `sha256`: a digest of the whole file, with zeros where the digest stands.

The digest is checked before anything else is looked at. So every changed, missing or added bit is noticed, and a file
that was renamed to another key's name is known as foreign.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

FORMAT = 1
"""Number of this layout; a record of another one is not read."""

_BLANK = b'"sha256":"' + b"0" * 64 + b'"'
_DIGEST = re.compile(rb'"sha256":"[0-9a-f]{64}"')
_LENGTH = 8  # bytes before the header, which say how long it is
_PLAIN = (str, int, float, bool, type(None))


class BadRecord(Exception):
    """The bytes are not the record that they should be; says why."""


def pack(key: str, result: Mapping[str, Any]) -> bytes:
    """The record of a result.

    Args:
        key: The unit's key.
        result: Nested dictionaries (with strings as names) and lists of tensors and plain values.

    Raises:
        TypeError: For anything else in the result.
    """
    tensors: dict[str, Tensor] = {}
    structure = _flatten(dict(result), "", tensors)
    record = json.dumps({"format": FORMAT, "key": key, "result": structure})
    content = bytearray(save(tensors, {"record": record, "sha256": "0" * 64}))
    at = content.index(_BLANK)
    content[at : at + len(_BLANK)] = b'"sha256":"%s"' % hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def unpack(key: str, content: bytes) -> dict[str, Any]:
    """The result that a record holds.

    Args:
        key: The key that it should have.
        content: The file's bytes.

    Raises:
        BadRecord: If a single bit is not as it was written, or it is the record of another key.
    """
    _check_digest(content)
    try:
        size = int.from_bytes(content[:_LENGTH], "little")
        record = json.loads(json.loads(content[_LENGTH : _LENGTH + size])["__metadata__"]["record"])
        if record["format"] != FORMAT:
            raise BadRecord(f"it is of format {record['format']}, not {FORMAT}")
        if record["key"] != key:
            raise BadRecord(f"it is the record of another unit, {record['key']}")
        result = _rebuild(record["result"], load(content))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, safetensors.SafetensorError) as error:
        raise BadRecord("it is no record of this program") from error
    if not isinstance(result, dict):
        raise BadRecord("it holds no result")
    return result


def _check_digest(content: bytes) -> None:
    """Refuse content that is not what the digest within was made of."""
    size = int.from_bytes(content[:_LENGTH], "little")
    found = _DIGEST.search(content, _LENGTH, min(_LENGTH + size, len(content)))
    if not found:
        raise BadRecord("it is no record of this program, or only the beginning of one")
    digest = hashlib.sha256(content[: found.start()])
    digest.update(_BLANK)
    digest.update(memoryview(content)[found.end() :])
    if found[0] != b'"sha256":"%s"' % digest.hexdigest().encode():
        raise BadRecord("its content is not what was written")


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The structure of a value as JSON: an object of one entry that says what stands there; tensors go to `tensors`."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": path}
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"cannot keep names that are no strings, in {path or 'the result'}")
        return {"map": {name: _flatten(entry, _below(path, name), tensors) for name, entry in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [_flatten(entry, _below(path, str(place)), tensors) for place, entry in enumerate(value)]}
    if isinstance(value, _PLAIN):
        return {"value": value}
    raise TypeError(f"cannot keep {type(value).__name__}, in {path or 'the result'}")


def _rebuild(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `_flatten` took apart."""
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "map":
        return {name: _rebuild(entry, tensors) for name, entry in content.items()}
    if kind == "list":
        return [_rebuild(entry, tensors) for entry in content]
    return {"value": content}[kind]


def _below(path: str, name: str) -> str:
    """The JSON pointer (RFC 6901) of an entry."""
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
