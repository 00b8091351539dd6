"""Jobs on a server, as seen by asking for their state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnsight.schema.response import ResponseModel, Status

from entitrack.runtime.ndif.payload import is_job_id

_ENDED = (Status.COMPLETED, Status.ERROR)


@dataclass
class Job:
    """A job that was submitted.

    Attributes:
        id: Its id on the server.
        submitted: When, in seconds since the epoch.
        adopted: It was submitted by an earlier process.
        damaged: An earlier process could not read its result.
        seen: When this process began to watch it (clock of `time.monotonic`).
        begun: When it was first seen running.
        ended: When it was first seen to have ended.
        last: What the server said last.
        lost: The server knew it once and does so no more.
    """

    id: str
    submitted: float
    adopted: bool = False
    damaged: bool = False
    seen: float = field(default_factory=time.monotonic)
    begun: float | None = None
    ended: float | None = None
    last: ResponseModel | None = None
    lost: bool = False
    _known: bool = False

    @classmethod
    def noted(cls, note: Mapping[str, Any] | None, host: str) -> Job | None:
        """The job of an earlier process, from what is noted in the store; None if nothing usable is noted for a host.

        Args:
            note: What `record` gave then, as it was read back.
            host: The server that is asked now.
        """
        if not isinstance(note, Mapping) or note.get("host") != host or not is_job_id(note.get("id")):
            return None
        submitted = note.get("submitted")
        if not isinstance(submitted, (int, float)):
            return None
        return cls(note["id"], float(submitted), adopted=True, damaged=note.get("damaged") is True)

    def hear(self, said: ResponseModel | None) -> None:
        """Take note of what the server says when asked; nothing at first only means that it has not got to it."""
        now = time.monotonic()
        self.lost = said is None and self._known
        if said is None or self.ended is not None:
            return
        self.last, self._known = said, True
        if said.status in (Status.RUNNING, Status.LOG) and self.begun is None:
            self.begun = now
        if said.status in _ENDED:
            self.ended = now

    @property
    def queued_s(self) -> float:
        """Seconds until it was seen running, or until it ended."""
        return (self.begun or self.ended or time.monotonic()) - self.seen

    @property
    def running_s(self) -> float:
        """Seconds between it was seen running and its end; 0 if it was never seen running."""
        return (self.ended or time.monotonic()) - self.begun if self.begun else 0.0

    def record(self, host: str) -> dict[str, Any]:
        """What is noted in the store."""
        return {"id": self.id, "host": host, "submitted": self.submitted, "damaged": self.damaged}
