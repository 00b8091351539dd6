"""A base and its adapter run on one deployment: each request says which, and none changes what the next one finds."""

from __future__ import annotations

import pytest

from entitrack.engine.patching import answer
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from tests.remote.harness import largest_difference
from tests.remote.real.measuring import UNTRUSTED
from tests.remote.real.scenarios import few_prompts
from tests.remote.real.served import Real

BASE, ADAPTED = "llama", "goat"


@pytest.mark.parametrize(("form", "tolerance"), [("auto", 0.0), (UNTRUSTED, 1e-6)])
def test_an_adapter_does_not_move_its_base(
    form: str, tolerance: float, real: Real, bare_tiny: Family, tiny_family: Family
) -> None:
    inputs = few_prompts(tiny_family)
    right = {name: list(Runner(Local()).map(tiny_family.load(name), answer, inputs)) for name in (BASE, ADAPTED)}
    runner = Runner(real.backend(form=form))
    before = list(runner.map(bare_tiny.load(BASE), answer, inputs))
    turns = zip(*(runner.map(bare_tiny.load(name), answer, inputs) for name in (ADAPTED, BASE)), strict=True)
    adapted, between = zip(*turns, strict=True)
    after = list(runner.map(bare_tiny.load(BASE), answer, inputs))
    assert largest_difference(adapted, before) > 1e-3
    assert largest_difference(before, between) == largest_difference(before, after) == 0
    assert largest_difference(before, right[BASE]) <= tolerance
    assert largest_difference(adapted, right[ADAPTED]) <= tolerance
