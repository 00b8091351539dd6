"""First-order path patching: the limit of the exact scores for small changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.attribution import attribution_effects
from entitrack.engine.naive import naive_effects
from entitrack.engine.path_patching import path_effects
from entitrack.models.family import Model
from entitrack.runtime.backends import Local
from tests.engine.test_path_patching import STAGES, _rows, golden_inputs


def run(model: Model, function: Any, **inputs: Any) -> dict[str, Tensor]:
    return Local().run(model, function, {"anatomy": model.anatomy, **inputs})


@pytest.mark.parametrize("stage", STAGES)
def test_it_is_the_slope_of_the_exact_effect(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str, monkeypatch: Any
) -> None:
    """Moving z by a small step towards its source changes the answer by that step's share of the attribution."""
    inputs = _rows(golden_inputs(golden, golden_json, stage), slice(0, 7))
    inputs["clean"] = {name: value.clone() for name, value in inputs["clean"].items()}
    given = {name: inputs[name] for name in ("clean", "source", "receivers")}
    first_order = run(golden_model, attribution_effects, **given)["effect"]
    step = 2e-2
    exact = _stepped(golden_model, inputs, step, monkeypatch) - _stepped(golden_model, inputs, -step, monkeypatch)
    slope = exact / (2 * step)
    scale = slope.abs().max().clamp(min=1e-2)
    torch.testing.assert_close(first_order / scale, slope / scale, atol=2e-2, rtol=0)


def _stepped(model: Model, inputs: dict[str, Any], step: float, monkeypatch: Any) -> Tensor:
    """Exact effects with every sender moved by `step` of the way to its source."""
    from entitrack.engine import path_patching

    exact = path_patching.sender_z

    def moved(anatomy: Any, clean_z: Tensor, source_z: Tensor, heads: list[int]) -> Tensor:
        own = clean_z.unflatten(-1, source_z.shape[1:])
        return exact(anatomy, clean_z, own + step * (source_z - own), heads)

    with monkeypatch.context() as patch:
        patch.setattr(path_patching, "sender_z", moved)
        return run(model, path_effects, **inputs)["effect"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_built_in_naive_path_is_golden(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    inputs = golden_inputs(golden, golden_json, stage)
    heads = [[0, 1], [1, 4], [2, 3]]
    given = {name: inputs[name] for name in ("clean", "source", "receivers")}
    found = run(golden_model, naive_effects, **given, heads=heads)
    expected = torch.stack([golden[f"pp.score.{stage}"][layer, head] for layer, head in heads])
    torch.testing.assert_close(found["effect"].mean(0), expected, atol=1e-5, rtol=0)
    assert found["null"].abs().max() < 1e-4
