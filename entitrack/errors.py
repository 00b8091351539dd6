"""The one exception that a user is meant to read."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something in what the user gave is wrong: shown as one line, exit code 2, no traceback.

    Args:
        place: Where it is: a config key (`donor`), a file and line, a prompt number.
        problem: What is wrong there.
        available: What exists instead, listed after the problem.
        fix: What to do about it.
    """

    def __init__(self, place: str, problem: str, available: Iterable[object] = (), fix: str = "") -> None:
        names = ", ".join(str(name) for name in available)
        parts = [f"{place}: {problem}"]
        if names:
            parts.append(f"available: {names}")
        if fix:
            parts.append(fix)
        super().__init__("; ".join(parts))
