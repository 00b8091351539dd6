"""Masks say what they were found on, and narrow groups to their heads."""

from __future__ import annotations

from pathlib import Path

import pytest

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks, read_masks

GROUP = Group("fetch", "last", ((0, 1), (2, 3)))
MASKS = Masks({"fetch": {"value": ((2, 3),), "position": ()}}, {"model": "goat"})


def test_masks_say_on_which_model_they_were_found() -> None:
    assert MASKS.origin == " (found on goat)"
    assert Masks({}).origin == Masks({}, {"model": 3}).origin == ""


def test_a_group_is_narrowed_to_the_heads_that_carry_something() -> None:
    assert MASKS.narrow(GROUP, "value", "here") == Group("fetch", "last", ((2, 3),))
    assert MASKS.narrow(GROUP, "position", "here").heads == ()
    circuit = Circuit((GROUP,), {"task": "boxes"})
    assert MASKS.narrow_circuit(circuit, "value", "here") == Circuit(
        (Group("fetch", "last", ((2, 3),)),), {"task": "boxes"}
    )


def test_what_has_no_mask_or_another_circuit_s_is_refused() -> None:
    with pytest.raises(UserError, match=r"^here: has no mask for fetch/other; available: fetch/value, fetch/position$"):
        MASKS.narrow(GROUP, "other", "here")
    with pytest.raises(UserError, match=r"^here: heads \[\[2, 3\]\] of the mask for fetch/value are not in"):
        MASKS.narrow(Group("fetch", "last", ((0, 1),)), "value", "here")


def test_masks_that_are_written_are_read_with_where_they_were_found(tmp_path: Path) -> None:
    MASKS.write(tmp_path / "masks.json")
    assert read_masks(str(tmp_path / "masks.json")) == MASKS
