"""Archives that `torch.save` writes, read without `torch.load`, which would hand some of them to TorchScript.

1. An archive is a zip file of one folder: `data.pkl` with the structure, `data/0`, `data/1`, ... with the bytes of the
   tensors, `version` and `byteorder`. Members are stored as they are; compressed, doubled, overlapping and unknown ones
   are refused, so that nothing unpacks to more than came.
2. The structure is read by `pickled.run_program`, which knows containers, numbers, texts and one way of making tensors.
3. A tensor is a copy of the part of its bytes that its size and stride reach, which must lie inside; all of them
   together must not be larger than allowed, since a stride of 0 makes much out of little.
"""

from __future__ import annotations

import io
import math
import re
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import zstandard
from torch import Tensor

from entitrack.runtime.ndif.pickled import CorruptResult, Maker, run_program
from entitrack.runtime.ndif.saying import one_line

_MEMBERS = 20_000
_DIMENSIONS = 16
_PIECE = 1 << 20
_WINDOW = 1 << 27
_VERSION = b"3"
_HEADER = 30
_ENTRY = b"PK\x01\x02"
_MEMBER = re.compile(r"data\.pkl|version|byteorder|data/\d{1,9}|\.[a-z_]+(/[a-z_]+)?")
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class TooLarge(CorruptResult):
    """A result that is larger than allowed."""


def decompress(content: bytes, most: int) -> bytes:
    """The content of a zstandard frame, unpacked piece by piece.

    Args:
        content: The frame.
        most: Bytes at which unpacking stops.

    Raises:
        TooLarge: There is more in it.
        CorruptResult: It is no such frame.
    """
    plain = io.BytesIO()
    try:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        with unpacker.stream_reader(content, read_across_frames=False) as reader:
            while piece := reader.read(_PIECE):
                if plain.tell() + len(piece) > most:
                    raise TooLarge(f"it unpacks to more than {most:,} bytes")
                plain.write(piece)
    except zstandard.ZstdError as error:
        raise CorruptResult(f"it cannot be unpacked ({one_line(error, 120)})") from error
    return plain.getvalue()


def read_archive(content: bytes, most: int, others: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """What was saved in an archive.

    Args:
        content: The archive.
        most: Most bytes that all of its tensors may take together.
        others: Names besides those of tensors that it may use; see `run_program`.

    Raises:
        CorruptResult: It is not whole, or holds something else than plain containers and tensors.
    """
    try:
        archive = _Archive(content, most)
        return run_program(archive.member("data.pkl"), {**archive.names, **(others or {})}, archive.storage)
    except CorruptResult:
        raise
    except Exception as error:  # whatever else a damaged archive makes of the readers below
        raise CorruptResult(f"it is no archive that can be read ({type(error).__name__})") from error


@dataclass(frozen=True)
class _Storage:
    """The bytes that tensors are made of.

    Attributes:
        values: All of them, in one row.
    """

    values: Tensor


class _Archive:
    """The members of an archive, and the tensors in it.

    Args:
        content: The archive.
        most: Most bytes that all tensors may take together.
    """

    def __init__(self, content: bytes, most: int) -> None:
        if content.count(_ENTRY) > _MEMBERS:
            raise CorruptResult(f"it has more than {_MEMBERS:,} members")
        self._zip = zipfile.ZipFile(io.BytesIO(content))
        self._members = _check_members(self._zip)
        self._left = self._most = most
        self._storages: dict[tuple[str, torch.dtype], _Storage] = {}
        self.names: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor_v2"): Maker(self.tensor),
            ("collections", "OrderedDict"): Maker(_ordered),
            **{("torch", name): dtype for name, dtype in _DTYPES.items()},
        }
        if self.member("version").strip() != _VERSION:
            raise CorruptResult("it is of another version of the format")
        if self.member("byteorder").decode("ascii") != sys.byteorder:
            raise CorruptResult("its numbers are in another byte order")

    def member(self, name: str) -> bytes:
        """The content of a member."""
        if name not in self._members:
            raise CorruptResult(f"it has no {one_line(name, 40)}")
        return self._zip.read(self._members[name])

    def storage(self, reference: Any) -> _Storage:
        """The bytes that a reference in the structure means: `("storage", dtype, number, device, count)`."""
        kind, dtype, number, device, count = reference
        if kind != "storage" or type(dtype) is not torch.dtype or type(number) is not str or type(device) is not str:
            raise CorruptResult("it refers to something else than the bytes of a tensor")
        if (number, dtype) not in self._storages:
            self._storages[number, dtype] = _Storage(_row(self.member(f"data/{number}"), dtype))
        found = self._storages[number, dtype]
        if type(count) is not int or count != found.values.numel():
            raise CorruptResult(f"data/{one_line(number, 40)} is not as long as the structure says")
        return found

    def tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, metadata: Any = None
    ) -> Tensor:
        """A tensor of its own memory; whether a gradient was wanted there is nothing to us."""
        if type(storage) is not _Storage or type(gradient) is not bool or hooks != {} or metadata:
            raise CorruptResult("it holds a tensor of an unknown kind")
        _check_layout(storage.values.numel(), offset, size, stride)
        self._left -= max(1, math.prod(size)) * storage.values.element_size()
        if self._left < 0 or math.prod(filter(None, size)) > self._most:
            raise TooLarge(f"its tensors take more than {self._most:,} bytes")
        if 0 in size:
            return torch.empty(size, dtype=storage.values.dtype)
        view = storage.values.as_strided(size, stride, offset)
        return view.clone(memory_format=torch.contiguous_format)


def _check_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by their names within the one folder, none of which is more than it takes in the file."""
    members: dict[str, zipfile.ZipInfo] = {}
    end = 0
    folders = set()
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        folder, _, name = entry.filename.partition("/")
        folders.add(folder)
        if not _MEMBER.fullmatch(name):
            raise CorruptResult(f"it has a member {one_line(name, 40)!r}, which is not of a result")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise CorruptResult(f"its member {one_line(name, 40)!r} is compressed")
        if name in members or entry.header_offset < end or len(folders) > 1:
            raise CorruptResult(f"its member {one_line(name, 40)!r} is there twice or lies in another")
        end = entry.header_offset + _HEADER + len(entry.filename) + entry.file_size
        members[name] = entry
    if end > archive.start_dir:
        raise CorruptResult("its last member is longer than the file")
    return members


def _check_layout(count: int, offset: Any, size: Any, stride: Any) -> None:
    """Refuse a tensor that reaches beyond its bytes."""
    numbers = (offset, *size, *stride)
    if type(size) is not tuple or type(stride) is not tuple or not len(size) == len(stride) <= _DIMENSIONS:
        raise CorruptResult("it holds a tensor without a proper size")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise CorruptResult("it holds a tensor without a proper size")
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and reach >= count:
        raise CorruptResult("it holds a tensor that reaches beyond its bytes")


def _row(content: bytes, dtype: torch.dtype) -> Tensor:
    """Bytes as the values they stand for."""
    if len(content) % dtype.itemsize:
        raise CorruptResult("it holds part of a number")
    if not content:
        return torch.empty(0, dtype=dtype)
    if dtype == torch.bool and content.strip(b"\0\1"):
        raise CorruptResult("it holds a truth value that is neither")
    return torch.frombuffer(bytearray(content), dtype=dtype)


def _ordered(*entries: Any) -> dict[Any, Any]:
    """An ordered dictionary, as it is begun; its entries follow."""
    if entries:
        raise CorruptResult("it holds a dictionary of an unknown kind")
    return {}
