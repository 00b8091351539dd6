"""A job that failed in the program: which line of ours, and what the server saw."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

from entitrack.core.errors import UserError
from entitrack.runtime.backends import OutOfMemory
from entitrack.runtime.ndif.saying import LINE, one_line
from entitrack.runtime.ndif.usage import Usage

_FRAME = re.compile(r'File "(?:\[[^\]]*\] )?(?P<file>[^"]+)", line (?P<line>\d{1,7})(?:, in (?P<name>\S+))?')
_OURS = Path(__file__).parents[2]
_LINES = 60
_DEEPEST = 40
_TRACEBACK = "Traceback (most recent call last)"
_UNDEPLOYED = "Could not deploy this model."
_OUT_OF_MEMORY = re.compile(r"^\S*OutOfMemoryError|CUDA out of memory", re.MULTILINE)
_PASSING = ("try again later", "was evicted while", "cancelled or preempted by the server")
"""Words of a server that lost a model, or itself, under a job."""
_FIXES = {
    "exceeded the execution timeout": "lower batch_size: a job then has less to do",
    "payload could not be read": "install the nnsight and the Python that run there",
    "doesn't match the one your code was traced against": "install the transformers that runs there",
}
"""Words of a server -> what to do about it."""


class JobFailed(UserError):
    """A job ended in an error: running it again would end in the same one.

    Args:
        host: The server.
        job: The job's id.
        description: What the server says: a traceback of the program, or why it did not run it, in a sentence.
    """

    def __init__(self, host: str, job: str, description: str) -> None:
        self.description = description[-_LINES * LINE :]
        said = self.description.strip().splitlines()[-_LINES:]
        if not _of_program(description):
            problem = f"job {job} on {host} failed: {one_line(' '.join(said)) or 'no reason given'}"
            super().__init__("backend", problem, fix=_fix(description))
            return
        problem = f"job {job} on {host} failed{_where(self.description)}: {one_line(said[-1])}"
        super().__init__("backend", problem)
        indented = "\n".join(f"    {_indent(line)}{one_line(line)}" for line in said)
        self.args = (f"{self.args[0]}\n  what the server saw:\n{indented}",)


class JobOutOfMemory(JobFailed, OutOfMemory):
    """A job ran out of memory.

    Args:
        host: See `JobFailed`, also for `job` and `description`.
        usage: What the server says that it took, and what was missing.
    """

    def __init__(self, host: str, job: str, description: str, usage: Usage) -> None:
        super().__init__(host, job, description)
        self.fits = min(OutOfMemory.fits, usage.fits or OutOfMemory.fits)


class Again(Exception):
    """A job that came to nothing through no fault of its own: another one may."""


def failed(host: str, job: str, description: str, usage: Usage) -> JobFailed | Again:
    """What a job that ended in an error comes to.

    Args:
        host: The server.
        job: The job's id.
        description: What the server says.
        usage: What it says that the job took.
    """
    if _of_program(description) or usage.out_of_memory:
        ran_out = usage.out_of_memory or _OUT_OF_MEMORY.search(description)
        return JobOutOfMemory(host, job, description, usage) if ran_out else JobFailed(host, job, description)
    if any(words in description for words in _PASSING):
        return Again(one_line(description))
    return JobFailed(host, job, description)


def undeployed(host: str, member: str, name: str, description: str) -> UserError:
    """The complaint about a model that a server cannot bring up, in one line with its reason.

    Args:
        host: The server.
        member: Name of the member of the family.
        name: What the server is to call the model.
        description: What the server says.
    """
    reason = one_line(description.partition(_UNDEPLOYED)[2].partition(_TRACEBACK)[0]) or one_line(description)
    fix = "name a model that it can run (model.members.NAME.path, or .hosted for its name there)"
    return UserError(f"model.members.{member}", f"{host} could not deploy {name!r}: {reason}", fix=fix)


def is_undeployed(description: str) -> bool:
    """Whether a server says that it could not bring up the model of a job."""
    return description.startswith(_UNDEPLOYED)


def _of_program(description: str) -> bool:
    """Whether it is a traceback, which servers give of the program's errors alone."""
    return bool(_FRAME.search(description[-_LINES * LINE :]))


def _fix(description: str) -> str:
    """What to do about a job that the server did not run, or did not let run to its end."""
    return next((fix for words, fix in _FIXES.items() if words in description), "")


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
