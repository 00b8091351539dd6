"""A job that failed in the program: which line of ours, and what the server saw."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

from entitrack.core.errors import UserError
from entitrack.runtime.ndif.saying import LINE, one_line

_FRAME = re.compile(r'File "(?:\[[^\]]*\] )?(?P<file>[^"]+)", line (?P<line>\d{1,7})(?:, in (?P<name>\S+))?')
_OURS = Path(__file__).parents[2]
_LINES = 60
_DEEPEST = 40


class JobFailed(UserError):
    """A job ended in an error: running it again would end in the same one.

    Args:
        host: The server.
        job: The job's id.
        description: What the server says: its traceback.
    """

    def __init__(self, host: str, job: str, description: str) -> None:
        self.description = description[-_LINES * LINE :]
        said = self.description.strip().splitlines()[-_LINES:]
        last = one_line(said[-1]) if said else "no reason given"
        problem = f"job {job} on {host} failed{_where(self.description)}: {last}"
        super().__init__("backend", problem)
        indented = "\n".join(f"    {_indent(line)}{one_line(line)}" for line in said)
        self.args = (f"{self.args[0]}\n  what the server saw:\n{indented}",)


def _indent(line: str) -> str:
    """The spaces at the beginning of a line of a traceback."""
    return " " * min(len(line) - len(line.lstrip(" ")), _DEEPEST)


def _where(description: str) -> str:
    """The last line of our own code in a traceback, or nothing.

    Its source is shown only if it is a module of this package: a server may name any file.
    """
    frames = [match for match in _FRAME.finditer(description) if _OURS.name in Path(match["file"]).parts]
    if not frames:
        return ""
    frame = frames[-1]
    parts = Path(frame["file"]).parts
    start = len(parts) - 1 - parts[::-1].index(_OURS.name)
    place = one_line(f"{'/'.join(parts[start:])}:{frame['line']}", 120)
    source = one_line(_source(_OURS.parent.joinpath(*parts[start:]), int(frame["line"])))
    return f" at {place} in {one_line(frame['name'], 80)} (`{source}`)" if source else f" at {place}"


def _source(file: Path, line: int) -> str:
    """A line of a module of this package; empty if the file is none."""
    known = file.suffix == ".py" and ".." not in file.parts and file.is_relative_to(_OURS)
    return linecache.getline(str(file), line).strip() if known else ""
