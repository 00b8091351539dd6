"""Versions here and on a server: which go together, which may differ in the last digits, and which cannot work.

1. What is sent is written by nnsight and read by the server's: they must agree but for the patch. Of torch, which
   reads tensors there, and transformers, which names modules, the major versions must agree.
2. Functions travel as source, which a server's Python compiles: one that is older than this program takes cannot.
3. Whatever else differs works, but is said, once: results may differ in the last digits.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from entitrack.core.errors import UserError
from entitrack.core.notices import warn

OLDEST_PYTHON = (3, 11)
"""The oldest Python that this program's code compiles under, as `pyproject.toml` has it."""

_AGREEING = {"nnsight": (2, 3), "torch": (1, 2), "transformers": (1, 2), "python": (0, 2)}
"""Name -> how many numbers of its version must agree, and how many of them should."""


@dataclass(frozen=True)
class Difference:
    """A version that is another one on the server.

    Attributes:
        name: Of the library, or `python`.
        here: The version here.
        there: The version there.
        works: Whether jobs of ours can run there.
    """

    name: str
    here: str
    there: str
    works: bool


def differences(there: Mapping[str, str]) -> Sequence[Difference]:
    """What differs between here and a server, of what matters.

    Args:
        there: Name -> version, as far as the server tells.
    """
    found = []
    for name, (must, should) in _AGREEING.items():
        if name not in there:
            continue
        here = platform.python_version() if name == "python" else version(name)
        ours, theirs = _numbers(here), _numbers(there[name])
        works = theirs >= OLDEST_PYTHON if name == "python" else ours[:must] == theirs[:must]
        if not works or ours[:should] != theirs[:should]:
            found.append(Difference(name, _public(here), _public(there[name]), works))
    return found


def check_differences(address: str, differing: Sequence[Difference]) -> None:
    """Say what differs, and refuse what cannot work.

    Raises:
        UserError: Naming what to install.
    """
    in_words = [f"{one.name} {one.here} here and {one.there} there" for one in differing]
    failing = [one for one in differing if not one.works]
    if failing:
        said = [words for words, one in zip(in_words, differing, strict=True) if not one.works]
        pins = _pins(failing)
        python = f"ask for Python {'.'.join(map(str, OLDEST_PYTHON))} or later there"
        wishes = [f"install {pins}"] * bool(pins) + [python] * any(one.name == "python" for one in failing)
        fix = f"{', and '.join(wishes)}; backend.check_versions=false tries it all the same"
        problem = f"{address} runs versions with which jobs of ours cannot run: {', '.join(said)}"
        raise UserError("backend.host", problem, fix=fix)
    if differing:
        pins = _pins(differing)
        remedy = f", and if a job fails there without a reason of its own, install {pins}" if pins else ""
        warn(f"{address} runs other versions: {', '.join(in_words)}; results may differ in the last digits{remedy}")


def _pins(differing: Sequence[Difference]) -> str:
    """What pip is given to have the server's libraries."""
    return " ".join(f"{one.name}=={one.there}" for one in differing if one.name != "python")


def _public(version_string: str) -> str:
    """A version without what the build adds to it (`2.9.0+cu128`)."""
    return version_string.partition("+")[0]


def _numbers(version_string: str) -> tuple[int, ...]:
    """The numbers at the beginning of a version: 2, 9 and 0 of `2.9.0+cu128`, 0, 8 and 1 of `0.8.1.dev3`."""
    numbers: list[int] = []
    for part in _public(version_string).split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
