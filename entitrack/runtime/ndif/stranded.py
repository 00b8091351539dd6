"""Jobs that are queued, says the server, and will not run: it forgets its queue when it restarts, but not their states.

What tells them, after some patience: they were there when it was away, or one that was submitted later to the same
model has finished, and queues are served in order. Submitted anew, a job that was not lost after all runs twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from entitrack.runtime.ndif.jobs import Job


@dataclass
class Queues:
    """What is known of a server's queues.

    Attributes:
        patience_s: Seconds that a job may still wait.
    """

    patience_s: float
    _served: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)

    def serve(self, model: str, job: Job) -> None:
        """Take note of a job, if it has ended: how late it was submitted, and when that was seen."""
        before = self._served.get(model, (0.0, 0.0))
        if job.submitted > before[0] and job.ended is not None:
            self._served[model] = (job.submitted, job.ended)

    def stranded(self, model: str, job: Job, away: float | None) -> str:
        """Why a job is taken for lost; nothing where it is not.

        Args:
            model: What queue it is in.
            job: The job.
            away: When the server was away last (clock of `time.monotonic`); None where it never was.
        """
        if not job.waiting:
            return ""
        long_ago = time.monotonic() - self.patience_s
        if away is not None and job.seen <= away < long_ago:
            return f"it was {job.state} when the server was away, and has not gone on since"
        submitted, ended = self._served.get(model, (0.0, 0.0))
        if submitted > job.submitted and max(ended, job.seen) < long_ago:
            return f"it is {job.state}, and a job that was submitted after it has finished"
        return ""
