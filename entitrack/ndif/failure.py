"""A job that failed in the program: which line of ours, and what the server saw."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

from entitrack.errors import UserError

_FRAME = re.compile(r'File "(?:\[[^\]]*\] )?(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>\S+))?')
_OURS = Path(__file__).parents[1]


class JobFailed(UserError):
    """A job ended in an error: running it again would end in the same one.

    Args:
        host: The server.
        job: The job's id.
        description: What the server says: its traceback.
    """

    def __init__(self, host: str, job: str, description: str) -> None:
        self.description = description
        said = description.strip().splitlines()
        last = said[-1].strip() if said else "no reason given"
        problem = f"job {job} on {host} failed{_where(description)}: {last}"
        super().__init__("backend", problem)
        indented = "\n".join(f"    {line}" for line in said)
        self.args = (f"{self.args[0]}\n  what the server saw:\n{indented}",)


def _where(description: str) -> str:
    """The last line of our own code in a traceback, or nothing."""
    frames = [match for match in _FRAME.finditer(description) if _OURS.name in Path(match["file"]).parts]
    if not frames:
        return ""
    frame = frames[-1]
    parts = Path(frame["file"]).parts
    start = len(parts) - 1 - parts[::-1].index(_OURS.name)
    local = _OURS.parent.joinpath(*parts[start:])
    source = linecache.getline(str(local), int(frame["line"])).strip()
    place = "/".join(parts[start:])
    return f" at {place}:{frame['line']} in {frame['name']} (`{source}`)" if source else f" at {place}:{frame['line']}"
