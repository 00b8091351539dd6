"""Jobs on a server, as seen by asking for their state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nnsight.schema.response import ResponseModel, Status

from entitrack.runtime.ndif.payload import is_job_id
from entitrack.runtime.ndif.usage import Usage

_ENDED = (Status.COMPLETED, Status.ERROR)
_DEPLOYING = (Status.PROVISIONING, Status.DEPLOYING)
_WAITING = (Status.RECEIVED, Status.QUEUED, *_DEPLOYING)


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
        deploying_s: Seconds in which the model was brought up for it.
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
    deploying_s: float = 0.0
    last: ResponseModel | None = None
    lost: bool = False
    _known: bool = False
    _heard: float | None = field(default=None, repr=False)

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
        if self.deploying and self._heard is not None:
            self.deploying_s += now - self._heard
        self._heard = now
        self.last, self._known = said, True
        if said.status in (Status.RUNNING, Status.LOG) and self.begun is None:
            self.begun = now
        if said.status in _ENDED:
            self.ended = now

    @property
    def deploying(self) -> bool:
        """Whether the model is being brought up for it."""
        return self.last is not None and self.last.status in _DEPLOYING

    @property
    def waiting(self) -> bool:
        """Whether its turn has not come yet."""
        return self.last is not None and self.last.status in _WAITING

    @property
    def usage(self) -> Usage:
        """What the server says that it took; nothing before it has ended."""
        return Usage.of(self.last.meta if self.last else None)

    @property
    def waited_s(self) -> float:
        """Seconds that it has been watched, without those in which the model was brought up."""
        return (self.ended or time.monotonic()) - self.seen - self.deploying_s

    @property
    def queued_s(self) -> float:
        """Seconds until it was seen running, or until it ended, without those of bringing the model up."""
        until = self.begun or self.ended or time.monotonic()
        return max(0.0, until - self.seen - self.deploying_s)

    @property
    def running_s(self) -> float:
        """Seconds that it ran: as the server says, or else as it was seen; 0 if it was never seen running."""
        if self.usage.runtime_s is not None:
            return self.usage.runtime_s
        return (self.ended or time.monotonic()) - self.begun if self.begun else 0.0

    @property
    def state(self) -> str:
        """What the server said of it last, in a word."""
        return self.last.status.value if self.last else "RECEIVED"

    def record(self, host: str) -> dict[str, Any]:
        """What is noted in the store."""
        return {"id": self.id, "host": host, "submitted": self.submitted, "damaged": self.damaged}
