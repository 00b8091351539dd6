"""An offline W&B run, read back: what `wandb sync` would send."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

_BLOCK = 32768
_WHOLE, _END = 1, 4
"""Kinds of a part of a record: all of it, its end; others go on in the next."""


def records(folder: Path) -> Iterator[tuple[str, Any]]:
    """Kind and content of every record of the only run in a folder.

    The file is W&B's own header of seven bytes, then a log of blocks: parts of records, each after its check sum, its
    length and its kind, and no part over the end of a block.
    """
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (_WHOLE, _END):
            record = messages.Record()  # type: ignore[attr-defined]
            record.ParseFromString(whole)
            name = record.WhichOneof("record_type")
            yield name, getattr(record, name)
            whole = b""
