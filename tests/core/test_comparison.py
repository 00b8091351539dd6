"""Two results side by side: what was asked differently, and what came out differently."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from entitrack.core.errors import UserError
from entitrack.core.measurement import PromptSet
from entitrack.core.result import Result
from tests.methods import hand_made

MODELS = ("base", "donor")
ON = hand_made.prompts(12, {"query": [0, 1] * 6})


def result(values: Any, on: PromptSet = ON, facts: Any = None, **provenance: Any) -> Result:
    correct = hand_made.measured(values, "model", on, model=MODELS)
    tokens = hand_made.measured([[1] * len(on)] * 2, "model", on, model=MODELS)
    return Result("cmap", facts or {}, {"correct": correct, "tokens": tokens}, provenance=provenance)


FEW = [[1.0, 0.0] * 6, [1.0] * 12]
MORE = [[1.0, 1.0] * 6, [1.0] * 12]


def test_a_result_is_the_same_as_itself() -> None:
    wild = [[math.nan, math.inf, -math.inf] * 4, [0.5] * 12]
    same = result(wild).compare(result(wild))
    assert same.same_values
    assert (same.settings.rows, same.changes.rows) == ((), ())


def test_what_changed_is_listed_with_its_sign() -> None:
    found = result(FEW).compare(result(MORE))
    assert not found.same_values
    assert [row[:2] for row in found.values.rows] == [("correct", 1.0), ("tokens", 0.0)]
    ((name, entry, change),) = found.changes.rows
    assert (name, entry, change.value) == ("correct", "base", 0.5)  # type: ignore[union-attr]
    ((*_, back),) = result(MORE).compare(result(FEW)).changes.rows
    assert back.value == -0.5  # type: ignore[union-attr]


def test_a_change_within_its_interval_is_not_listed() -> None:
    found = result(FEW).compare(result([[1.0, 1.0, *[1.0, 0.0] * 5], [1.0] * 12]))
    assert found.values.rows[0][1] == 1.0
    assert found.changes.rows == ()


def test_a_change_on_few_contexts_is_listed_without_an_interval() -> None:
    few = hand_made.prompts(4)
    ((*_, change),) = result([[0.0] * 4, [1.0] * 4], few).compare(result([[1.0] * 4] * 2, few)).changes.rows
    assert str(change) == "1.000 [too few contexts]"


def test_a_number_that_is_gone_is_infinitely_far() -> None:
    gone = [[math.nan, 0.0] + [1.0, 0.0] * 5, [1.0] * 12]
    assert result(FEW).compare(result(gone)).values.rows[0][1] == math.inf


def test_what_was_asked_differently_is_named() -> None:
    config = {"task": {"seed": 0, "count": 4}, "seed": 0}
    other = {"task": {"seed": 1, "count": 4}, "method": {"form": "input"}, "seed": 0}
    first = result(FEW, facts={"form": "output"}, config=config, date="today", cost={"units": 1})
    second = result(FEW, facts={"form": "input"}, config=other, date="later", cost={"units": 2})
    assert first.compare(second).settings.rows == (
        ("facts.form", "output", "input"),
        ("config.task.seed", "0", "1"),
        ("config.method.form", None, "input"),
    )


def test_what_cannot_be_compared_says_why() -> None:
    first, elsewhere = result(FEW), result(FEW, hand_made.prompts(12))
    assert [row[2] for row in first.compare(elsewhere).values.rows] == ["other prompts"] * 2
    fewer = replace(first, measurements={"correct": first["correct"].at(model="base")})
    assert [row[2] for row in first.compare(fewer).values.rows] == ["other axes or entries", "only the first has it"]
    assert not first.compare(fewer).same_values
    with pytest.raises(UserError, match=r"^compare: the one is of method 'cmap', the other of 'dcm'"):
        first.compare(replace(first, method="dcm"))
