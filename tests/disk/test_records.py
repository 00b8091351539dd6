"""A record gives back what was put in, or says that it cannot be trusted: for any content, and any change of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import struct
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from entitrack.disk.records import BadRecord, pack, unpack

KEY, OTHER = "ab" * 32, "cd" * 32
DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64),
]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of any type and shape, empty and without axes too, with any bits, and with strides of any order."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = torch.Size(shape).numel() * dtype.itemsize
    content = bytearray(draw(st.binary(min_size=size, max_size=size)))
    if dtype == torch.bool:
        content = bytearray(byte & 1 for byte in content)
    if not content:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.frombuffer(content, dtype=dtype).reshape(shape)
    return tensor.transpose(0, -1) if draw(st.booleans()) and shape else tensor


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.text(max_size=4) | st.sampled_from(["/", "~", "a/b", "0", "__metadata__", "sha256", "~1"])
values = st.recursive(
    tensors() | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
results = st.dictionaries(names, values, max_size=4)


def same(one: Any, other: Any) -> bool:
    """Bit for bit, type for type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and bits(one) == bits(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    return bool(one == other)


def bits(tensor: Tensor) -> bytes:
    """The elements' bits, one element after another."""
    elements = [tensor[place].clone().reshape(1) for place in itertools.product(*map(range, tensor.shape))]
    return b"".join(element.view(torch.uint8).numpy().tobytes() for element in elements)


SMALL = {
    "prediction": torch.arange(3),
    "values": [torch.ones(2, dtype=torch.bfloat16), torch.tensor(0.5)],
    "noise": 1e-9,
}


@given(results)
@settings(deadline=None, max_examples=300)
def test_what_is_packed_is_unpacked(result: dict[str, Any]) -> None:
    assert same(unpack(KEY, pack(KEY, result)), result)


def test_every_bit_counts() -> None:
    content = pack(KEY, SMALL)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecord):
            unpack(KEY, bytes(damaged))


def test_300_of_300_flips_in_a_large_record_are_noticed() -> None:
    content = pack(KEY, {"a": torch.arange(50_000), "b": [torch.randn(100, 7) for _ in range(20)]})
    drawn = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
        with pytest.raises(BadRecord):
            unpack(KEY, bytes(damaged))


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 100, -1, -8, -100])
def test_a_beginning_is_no_record(keep: int) -> None:
    with pytest.raises(BadRecord):
        unpack(KEY, pack(KEY, SMALL)[:keep])


@given(st.binary(min_size=1, max_size=20))
def test_nothing_may_follow(more: bytes) -> None:
    with pytest.raises(BadRecord):
        unpack(KEY, pack(KEY, SMALL) + more)


@given(st.binary(max_size=400))
def test_no_bytes_are_taken_for_a_record(content: bytes) -> None:
    with pytest.raises(BadRecord):
        unpack(KEY, content)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_pieces_of_records_are_no_record(data: st.DataObject) -> None:
    """Cut, swapped, repeated, overwritten: never another error, never another result."""
    content = pack(KEY, SMALL)
    begin, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    piece = data.draw(st.sampled_from([content, pack(OTHER, SMALL), b"", bytes(50)]))
    spliced = content[:begin] + piece[begin:end] + content[end:]
    if spliced == content:
        assert same(unpack(KEY, spliced), SMALL)
    else:
        with pytest.raises(BadRecord):
            unpack(KEY, spliced)


@given(
    structure=st.recursive(plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2))
)
@settings(deadline=None)
def test_a_record_with_a_good_digest_and_another_structure_is_refused(structure: Any) -> None:
    """As a program other than this one may write it."""
    record = json.dumps({"format": 1, "key": KEY, "result": structure})
    content = save({"/a": torch.ones(1)}, {"record": record, "sha256": "0" * 64})
    digest = hashlib.sha256(content).hexdigest().encode()
    with pytest.raises(BadRecord):
        unpack(KEY, content.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest))


def test_a_record_names_its_key() -> None:
    with pytest.raises(BadRecord, match=f"it is the record of another unit, {KEY}"):
        unpack(OTHER, pack(KEY, SMALL))


@pytest.mark.parametrize("result", [{"a": object()}, {"a": [b"bytes"]}, {1: 2}, {"a": {2: 3}}, {"a": {1, 2}}])
def test_what_is_neither_tensor_nor_plain_is_not_kept(result: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="cannot keep"):
        pack(KEY, result)


def test_tensors_that_share_memory_are_kept_apart() -> None:
    whole = torch.arange(6.0)
    result = {"whole": whole, "part": whole[2:4], "again": whole}
    assert same(unpack(KEY, pack(KEY, result)), result)
