"""Budgets: a run that would exceed one is refused before the job that would, with the estimate."""

from __future__ import annotations

from entitrack.core.errors import UserError
from entitrack.runtime.backends import Cost
from entitrack.runtime.ndif.settings import Settings

_FIX = "raise it or ask for fewer prompts; what is finished is kept"


def check_budget(settings: Settings, cost: Cost, finished: int, upload: int, after: int) -> None:
    """Refuse the next job, and those known to come after it, if they would exceed a budget.

    Args:
        settings: The budgets.
        cost: What the run has used so far.
        finished: How many of its jobs have finished.
        upload: Bytes of the next job.
        after: How many jobs like it are known to follow.

    Raises:
        UserError: Naming the budget and the estimate.
    """
    coming = 1 + after
    jobs = cost.jobs + coming
    if settings.max_jobs is not None and jobs > settings.max_jobs:
        problem = f"the run needs at least {jobs} jobs ({cost.jobs} submitted, {coming} to come)"
        raise UserError("backend.max_jobs", f"{problem}, the budget is {settings.max_jobs}", fix=_FIX)
    sent = cost.wire_up + coming * upload
    if settings.max_upload_bytes is not None and sent > settings.max_upload_bytes:
        problem = f"the run would send about {sent:,} bytes ({cost.wire_up:,} sent, {coming} jobs of {upload:,})"
        raise UserError("backend.max_upload_bytes", f"{problem}, the budget is {settings.max_upload_bytes:,}", fix=_FIX)
    each = cost.running_s / finished if finished else 0.0
    seconds = cost.running_s + each * (cost.jobs - finished + coming)
    if settings.max_seconds is not None and seconds > settings.max_seconds:
        used = f"{cost.running_s:.1f} used, {each:.1f} a job"
        problem = f"the run would take about {seconds:.1f} s on the server ({used})"
        raise UserError("backend.max_seconds", f"{problem}, the budget is {settings.max_seconds:g}", fix=_FIX)
