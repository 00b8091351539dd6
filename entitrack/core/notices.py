"""What a run says beside its results: one line on standard error, and each line once."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import cache

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@cache
def warn(line: str) -> None:
    """Say what went wrong without stopping the run; what has been said is not said again.

    Args:
        line: What, where, and what was done about it. Control characters become spaces.
    """
    with suppress(OSError, ValueError):  # standard error is closed: nobody listens
        print(f"entitrack: warning: {_CONTROL.sub(' ', line)}", file=sys.stderr, flush=True)
