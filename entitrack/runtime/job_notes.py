"""What is noted of a job on a server, as the bytes of a file.

A job may have been paid for: a note that lost a bit must not pass for one of another job, or for none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypedDict

from entitrack.disk.records import BadRecord


class JobNote(TypedDict):
    """What is noted of a job that runs for a unit.

    Attributes:
        id: The job's id on the server.
        host: The server.
        submitted: When, in seconds since the epoch.
        damaged: Its result could not be read once.
    """

    id: str
    host: str
    submitted: float
    damaged: bool


_NOTE_TYPES: Mapping[str, Any] = {"id": str, "host": str, "submitted": (int, float), "damaged": bool}


def write_note(key: str, note: Mapping[str, Any]) -> bytes:
    """A note as it is kept: with its key, and a digest over both. The same note has always the same bytes."""
    content = json.dumps([key, note], sort_keys=True)
    return json.dumps(
        {"key": key, "note": note, "sha256": hashlib.sha256(content.encode()).hexdigest()}, sort_keys=True
    ).encode()


def read_note(key: str, content: bytes) -> JobNote:
    """The note that was kept.

    Raises:
        BadRecord: Written again, it does not give the same bytes.
    """
    try:
        note = json.loads(content)["note"]
        whole = write_note(key, note) == content
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadRecord("it is no note of this program") from error
    if not whole:
        raise BadRecord("its content is not what was written, or it is of another unit")
    if not isinstance(note, dict) or note.keys() != _NOTE_TYPES.keys():
        raise BadRecord("it does not say what a note says")
    if not all(isinstance(note[name], kind) for name, kind in _NOTE_TYPES.items()):
        raise BadRecord("it does not say what a note says")
    return JobNote(id=note["id"], host=note["host"], submitted=note["submitted"], damaged=note["damaged"])
