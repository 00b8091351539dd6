"""Places that a run records in: those that nothing can be written to are refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

from entitrack.record.folder import check_folder
from entitrack.record.settings import TrackingSettings
from entitrack.record.tracking import check_tracking


def check_places(tracking: TrackingSettings, folder: Path, store: str | None) -> None:
    """Refuse places that nothing can be recorded in.

    Args:
        tracking: How W&B records.
        folder: Where the result belongs.
        store: Where finished sessions are kept; None: nowhere.

    Raises:
        UserError: W&B cannot record, or the folder holds a result.
        OSError: A folder cannot be made, or not written to.
    """
    check_tracking(tracking)
    check_folder(folder)
    if store:
        check_folder(Path(store).absolute())
