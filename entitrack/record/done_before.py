"""Whether a folder holds what is about to be computed: a study or a sweep that was stopped goes on with it.

What is asked must be the same, and so must be the code that answers. How a run is launched and logged, and where its
finished sessions are kept, changes no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError
from entitrack.core.plain import plain
from entitrack.core.result import Result
from entitrack.record.folder import RESULT
from entitrack.record.loading import load
from entitrack.runtime.keys import code_digest

ELSEWHERE = ("launcher", "tracking", "store", "output_dir", "study")
"""What of a configuration may differ."""


def done_before(folder: Path, config: Mapping[str, Any]) -> Result | None:
    """The result that is in a folder, if it is what a configuration would give; None if there is none.

    Args:
        folder: The folder.
        config: The configuration, as plain values.

    Raises:
        UserError: It is of another configuration, or was computed by other code.
    """
    if not (folder / RESULT).exists():
        return None
    result = load(folder)
    fix = "choose another folder, or remove this one"
    before, now = (_that_count(each) for each in (result.provenance["config"], plain(config, otherwise=str)))
    if before != now:
        keys = ", ".join(sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)))
        raise UserError(str(folder), f"holds a result of another configuration ({keys})", fix=fix)
    if result.provenance.get("code") != code_digest():
        raise UserError(str(folder), "holds a result of another version of the program or its libraries", fix=fix)
    return result


def _that_count(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ELSEWHERE}
