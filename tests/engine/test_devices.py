"""Layers may be on several devices: here the second half of a model is on `meta`, which refuses values from elsewhere.

Nothing there has numbers, so what is checked is that everything goes to where its layer is, on the whole way.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from entitrack.core.components import COMPONENTS
from entitrack.engine.circuits import circuit_answers
from entitrack.engine.knockout import knockout_answers
from entitrack.engine.masks import masked_answers
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.engine.path_patching import path_effects
from entitrack.engine.positions import live_position_answers
from entitrack.models.family import Model
from entitrack.runtime.backends import Local
from tests.engine.test_ablation import random_circuits, tiny_inputs
from tests.engine.test_architectures import wrapped

META = torch.device("meta")


def follow(module: nn.Module, device: torch.device) -> None:
    """Put a module on a device, to which its inputs are moved, as accelerate's hooks do."""

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device)
        return tuple(moved(entry) for entry in value) if isinstance(value, tuple) else value

    def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        return moved(args), {name: moved(value) for name, value in kwargs.items()}

    module.to(device)
    for part in module.modules():
        part.register_forward_pre_hook(hook, with_kwargs=True)


@pytest.fixture(params=["llama", "mistral", "gemma2"])
def split_model(request: pytest.FixtureRequest) -> Model:
    module, model = wrapped(request.param)
    for part in (module.model.layers[1], module.model.norm, module.lm_head):
        follow(part, META)
    return model


def devices(model: Model, function: Any, **inputs: Any) -> set[str]:
    """Run an intervention; the devices of its results."""
    seen: set[str] = set()

    def look(value: Any) -> None:
        for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            look(entry)
        if isinstance(value, Tensor):
            seen.add(value.device.type)

    def watched(model: Any, anatomy: Any, **inputs: Any) -> dict[str, Tensor]:
        look(function(model, anatomy, **inputs))
        return {}

    Local().run(model, watched, {"anatomy": model.anatomy, **inputs})
    return seen


def test_circuits(split_model: Model) -> None:
    fill = {"values": torch.zeros(2, 9, split_model.anatomy["n_heads"] * split_model.anatomy["d_head"])}
    circuits = random_circuits(12, (3, 2, 4))
    inputs: dict[str, Any] = {**tiny_inputs(), "fill": fill, "gib": 1e-4}
    assert devices(split_model, circuit_answers, **inputs, circuits=circuits, reference=circuits[5]) == {"meta"}
    del inputs["fill"], inputs["positions"]
    slots = torch.tensor([[0, 3, 8], [1, 2, 8]])[:, None].expand(2, 5, 3)
    others = {name: inputs["prompts"][name] for name in ("tokens", "mask")}
    live = torch.ones(2, 3, dtype=torch.bool)
    found = devices(split_model, live_position_answers, **inputs, fill=others, slots=slots, live=live)
    assert found == {"meta"}


def test_knockout(split_model: Model) -> None:
    prompts = tiny_inputs()["prompts"]
    inputs = {"source": torch.full((5,), 6), "targets": torch.tensor([[0, 1, 2, 3, 4]]), "gib": 1e-4}
    assert devices(split_model, knockout_answers, prompts=prompts, **inputs) == {"meta"}


@pytest.mark.parametrize("component", ["logits", "q", "v"])
def test_path_patching(split_model: Model, component: str) -> None:
    prompts = tiny_inputs()["prompts"]
    clean = {**prompts, "position": prompts["last"] - (2 if component == "v" else 0)}
    source = {name: clean[name] for name in ("tokens", "mask", "position")}
    receivers = {"component": component, **({} if component == "logits" else {"heads": [[1, 0]]})}
    inputs = {"clean": clean, "source": source, "senders": [[0, 1], [2]], "receivers": receivers}
    assert "meta" in devices(split_model, path_effects, **inputs)


@pytest.mark.parametrize("heads", [[[0, 1], [1, 2]], [[1, 0], [1, 3]]])
def test_masks(split_model: Model, heads: list[list[int]]) -> None:
    prompts = tiny_inputs()["prompts"]
    positions = torch.stack([prompts["last"] - 2, prompts["last"]])
    groups = [{"heads": heads, "positions": positions, "source_positions": positions[None]}]
    source = {name: prompts[name] for name in ("tokens", "mask")}
    batch = {"clean": prompts, "sources": [source], "targets": prompts["answers"][None]}
    masks = [torch.tensor([[0.0, 1.0], [0.5, 0.5]])]
    inputs = {"groups": groups, "batch": batch, "masks": masks, "draws": [0, 0], "gib": 1e-4}
    assert "meta" in devices(split_model, masked_answers, **inputs)


def test_patching(split_model: Model) -> None:
    prompts = tiny_inputs()["prompts"]
    sites = [
        {
            "component": name,
            "layer": layer,
            "position": prompts["last"] - 1,
            **({"heads": [0]} if name in "qkvz" else {}),
        }
        for layer in (0, 1)
        for name in COMPONENTS
    ]
    assert devices(split_model, read_sites, prompts=prompts, sites=sites) == {"cpu", "meta"}
    d_model = split_model.envoy._module.config.hidden_size
    d_head = split_model.anatomy["d_head"]
    patches = [{**site, "values": torch.zeros(1, d_head if "heads" in site else d_model)} for site in sites]
    live = [site for site in sites if site["component"] == "z"]
    inputs = {"patches": patches, "variants": [[], list(range(len(sites)))], "live": [[], live]}
    assert devices(split_model, answer_patched, prompts=prompts, **inputs) == {"meta"}
