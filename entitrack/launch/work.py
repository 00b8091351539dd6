"""One job of a sweep in a process of its own: plain values go there, and a line comes back if it failed."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A job, as plain values.

    Attributes:
        number: Its place in the sweep.
        flags: The command's flags that say where configurations are.
        overrides: The words that make it up.
        folder: Where its result belongs.
        command: The command line, without keys, as the result records it.
        here: The folder that the command was given in.
        threads: Threads that it computes with; None leaves that to the libraries.
    """

    number: int
    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    folder: str
    command: str
    here: str
    threads: int | None = None


def do(work: Work) -> tuple[int, str | None]:
    """Run a job in this process, and say nothing: what it finds is in its folder.

    Returns:
        Its number, and why it failed.
    """
    from entitrack.core.confidential import Keys
    from entitrack.run import Command

    if work.threads is not None:
        import torch

        torch.set_num_threads(work.threads)
    os.chdir(work.here)
    with contextlib.redirect_stdout(io.StringIO()):
        return work.number, Command([], work.command, Keys()).job(work)
