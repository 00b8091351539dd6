"""What comes back is held to what the intervention promises."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack import methods
from entitrack.core.errors import UserError
from entitrack.engine.patching import answer, read_sites
from entitrack.runtime import promises
from entitrack.runtime.promises import PROMISES, check_result

RIGHT: dict[str, Any] = {"prediction": torch.zeros(3, dtype=torch.long), "probability": torch.zeros(3)}


def shipped() -> dict[str, Any]:
    """Every intervention that a method asks for, by room and name."""
    wanted = {}
    for file in Path(methods.__path__[0]).rglob("*.py"):
        if file.name == "trace.py":  # an intervention itself, which uses others of the engine
            continue
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_ROOMS):
                for alias in node.names:
                    value = getattr(importlib.import_module(node.module), alias.name)
                    arguments = list(inspect.signature(value).parameters) if inspect.isfunction(value) else []
                    if arguments[:2] == ["model", "anatomy"]:
                        wanted[f"{node.module.rpartition('.')[2]}.{alias.name}"] = value
    return wanted


_ROOMS = answer.__module__.rpartition(".")[0]


def test_every_intervention_has_its_promise_and_no_promise_is_stale() -> None:
    tested_only = {"ablation.model_without"}
    assert shipped().keys() | tested_only == PROMISES.keys()


def test_right_results_pass() -> None:
    check_result(answer, RIGHT)
    check_result(read_sites, {**RIGHT, "values": [torch.zeros(3, 1, 8), torch.zeros(3, 5, 8).bfloat16()]})
    check_result(read_sites, {**RIGHT, "values": []})


@pytest.mark.parametrize(
    ("function", "result", "problem"),
    [
        (answer, {"prediction": RIGHT["prediction"]}, "'probability' is missing"),
        (answer, {}, "is missing"),
        (answer, {**RIGHT, "more": torch.zeros(3)}, "'more' is not among what it returns"),
        (answer, {**RIGHT, "probability": torch.zeros(4)}, r"'probability' is float32\[4\], not Float\[batch\]"),
        (answer, {**RIGHT, "probability": torch.zeros(3, 1)}, r"'probability' is float32\[3, 1\], not Float\[batch\]"),
        (answer, {**RIGHT, "prediction": torch.zeros(3)}, r"'prediction' is float32\[3\], not Int\[batch\]"),
        (answer, {**RIGHT, "prediction": torch.zeros(3).bool()}, r"'prediction' is bool\[3\], not Int\[batch\]"),
        (answer, {**RIGHT, "probability": [0.0, 0.0, 0.0]}, r"'probability' is of type list, not Float\[batch\]"),
        (answer, {**RIGHT, "probability": None}, r"'probability' is of type NoneType, not Float\[batch\]"),
        (answer, None, "it is of type NoneType, not a dictionary"),
        (answer, torch.zeros(2), r"it is float32\[2\], not a dictionary"),
        (read_sites, {**RIGHT, "values": torch.zeros(1, 3, 1, 8)}, r"'values' is float32\[1, 3, 1, 8\], not a list"),
        (read_sites, {**RIGHT, "values": [torch.zeros(2, 1, 8)]}, "is (float32|int64)"),
        (read_sites, {**RIGHT, "values": [torch.zeros(3, 1, 8), torch.zeros(3, 1, 9)]}, r"'values\[1\]' is float32"),
    ],
)
def test_what_is_wrong_is_named(function: Any, result: Any, problem: str) -> None:
    with pytest.raises(UserError, match=f"^backend: the result of {function.__name__} is not .*{problem}.*; not kept$"):
        check_result(function, result)


def test_a_function_without_a_promise_may_return_any_dictionary() -> None:
    def own(model: Any) -> Any: ...

    check_result(own, {"anything": 1})
    with pytest.raises(promises.WrongResult, match="not a dictionary"):
        check_result(own, [1])
