"""Replies of which any bytes were changed: they are read as they were, or refused."""

from __future__ import annotations

import io
import zipfile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entitrack.runtime.ndif.payload import CorruptResult, unpack
from tests.hostile.replies import (
    MIB,
    check_line,
    compressed,
    lied,
    result_of,
    rezipped,
    saved,
)
from tests.remote.harness import largest_difference

GOOD = {"a": torch.linspace(0, 1, 40).reshape(5, 8)[:, 2:], "b": [torch.arange(3), torch.ones(2) > 0], "c": 1.5}
ARCHIVE = saved({"result": GOOD})
CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 255), st.sampled_from(["set", "insert", "delete", "cut"])),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, changes: list[tuple[int, int, str]]) -> bytes:
    """A content of which bytes are replaced, added, taken out, or all of the rest."""
    mutable = bytearray(content)
    for at, byte, how in changes:
        place = at % (len(mutable) or 1)
        if how == "insert":
            mutable.insert(place, byte)
        elif mutable and how == "set":
            mutable[place] = byte
        elif mutable:
            del mutable[place : None if how == "cut" else place + 1]
    return bytes(mutable)


def same_or_refused(content: bytes) -> None:
    try:
        read = unpack(content, MIB)
    except CorruptResult as error:
        check_line(str(error))
    else:
        assert largest_difference(read, GOOD) == 0


@given(CHANGES)
@settings(max_examples=300, deadline=None)
def test_a_changed_archive_is_the_same_or_refused(changes: list[tuple[int, int, str]]) -> None:
    """Bytes of the archive itself, so that what is changed gets past the compression."""
    same_or_refused(compressed(changed(ARCHIVE, changes)))


@given(CHANGES)
@settings(max_examples=150, deadline=None)
def test_a_changed_frame_is_the_same_or_refused(changes: list[tuple[int, int, str]]) -> None:
    same_or_refused(changed(compressed(ARCHIVE), changes))


@given(CHANGES)
@settings(max_examples=300, deadline=None)
def test_a_changed_program_is_read_or_refused(changes: list[tuple[int, int, str]]) -> None:
    """Past the checksum too, where a liar would write: nothing but a result or a refusal comes of it."""
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["archive/data.pkl"] = changed(contents["archive/data.pkl"], changes)
    try:
        unpack(compressed(rezipped(contents)), MIB)
    except CorruptResult as error:
        check_line(str(error))


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for whole in (content, compressed(content), lied(content), lied(result_of(content))):
        try:
            unpack(whole, MIB)
        except CorruptResult as error:
            check_line(str(error))
