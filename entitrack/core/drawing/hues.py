"""What colours stand for, in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entitrack.core.result import Result

BASE, TESTED, RANDOM, LEFT_OUT = "base", "tested", "random", "left out"
"""Hues: a base; what is tested, as a circuit or a transplant; random controls; what is pruned or not chosen."""


def donor_hue(number: int) -> str:
    """The hue of a family's donor of that number."""
    return f"donor {number}"


def other_hue(number: int) -> str:
    """The hue of the thing of that number, of those that a figure tells apart and that are no models."""
    return f"other {number}"


def member_hues(result: Result, names: Sequence[str]) -> dict[str, str]:
    """The hues of members of a family, the same in every figure of it.

    Args:
        result: The result; its provenance says what the family's members are.
        names: Those to be drawn; taken for the whole family, the base first, where the provenance says nothing.
    """
    model = result.provenance.get("config", {}).get("model") or {}
    family = list(model.get("members") or names)
    base = model.get("base") or next(iter(names), "")
    donors = [name for name in dict.fromkeys([*family, *names]) if name != base]
    return {name: BASE if name == base else donor_hue(donors.index(name)) for name in names}
