"""Finished work is kept whole or not at all, under a key of everything it depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.backends import Local, Runner
from entitrack.engine.patching import answer
from entitrack.models.family import Model
from entitrack.store import Store, unit_key


def key(**inputs: Any) -> str:
    return unit_key("f", "model", "cpu", inputs)


def test_what_is_put_is_got(tmp_path: Path) -> None:
    store = Store(tmp_path)
    result: dict[str, Any] = {"a": torch.arange(3), "b": [torch.ones(2), torch.zeros(1)]}
    store.put(key(x=1), result)
    found = store.get(key(x=1))
    assert found is not None
    assert torch.equal(found["a"], result["a"])
    assert store.get(key(x=2)) is None


def test_the_key_depends_on_everything() -> None:
    base: dict[str, Any] = {"tokens": torch.arange(4), "heads": [1, 2], "name": "q", "nested": {"a": torch.zeros(2)}}
    others = [
        {**base, "tokens": torch.arange(4).view(2, 2)},
        {**base, "tokens": torch.arange(4).int()},
        {**base, "tokens": torch.tensor([0, 1, 3, 2])},
        {**base, "heads": [[1], [2]]},
        {**base, "heads": [2, 1]},
        {**base, "name": "k"},
        {**base, "nested": {"b": torch.zeros(2)}},
        {**base, "more": None},
    ]
    keys = {key(**inputs) for inputs in (base, *others)}
    assert len(keys) == len(others) + 1
    assert len({unit_key(*names, base) for names in (("f", "m", "cpu"), ("g", "m", "cpu"), ("f", "n", "cpu"))}) == 3


def test_the_key_does_not_depend_on_order_of_names() -> None:
    assert key(a=1, b=2) == key(b=2, a=1)


def test_what_has_no_bytes_has_no_key() -> None:
    with pytest.raises(TypeError, match="object"):
        key(x=object())


def test_a_damaged_unit_is_computed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(key(x=1), {"a": torch.ones(1)})
    file = next(tmp_path.rglob("*.pt"))
    file.write_bytes(file.read_bytes()[:20])
    assert store.get(key(x=1)) is None
    assert not file.exists()


def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        Store(tmp_path).put(key(x=1), {"a": torch.ones(1)})
    assert not list(tmp_path.rglob("*.p*t"))


def test_finished_units_are_not_run_again(tmp_path: Path, golden: dict[str, Tensor], golden_model: Model) -> None:
    tokens = golden["eval.tokens"][:4]
    prompts = {
        "tokens": tokens,
        "mask": torch.ones_like(tokens),
        "last": golden["eval.last"][:4],
        "answers": golden["eval.labels"][:4],
    }
    first, second = Runner(Local(), Store(tmp_path)), Runner(Local(), Store(tmp_path))
    found = [runner.run(golden_model, answer, {"prompts": prompts}) for runner in (first, first, second)]
    assert [(runner.cost.units, runner.cost.reused) for runner in (first, second)] == [(1, 1), (0, 1)]
    assert all(torch.equal(found[0]["probability"], other["probability"]) for other in found[1:])
