"""Many sets of heads at once, against one set after another; and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.patching import answer, answer_patched, read_sites
from entitrack.engine.transplants import transplanted_answers
from entitrack.models.family import Model
from tests.engine.test_patching import golden_eval, positions, run
from tests.naive import layouts, tiny
from tests.naive.hooks import editing
from tests.naive.prompts import Prompts

LAYERS, HEADS = 4, 6


def every_head(golden: dict[str, Tensor], roles: list[str]) -> tuple[list[list[int]], Tensor]:
    """All heads at some roles, and where that is."""
    where = positions(golden)
    heads = [[layer, head] for _ in roles for layer in range(LAYERS) for head in range(HEADS)]
    return heads, torch.stack([where[role] for role in roles]).repeat_interleave(LAYERS * HEADS, 0)


def given(golden: dict[str, Tensor], donor: Model, roles: list[str]) -> dict[str, Any]:
    heads, places = every_head(golden, roles)
    sites = [
        {"component": "z", "layer": layer, "heads": [head], "position": place}
        for (layer, head), place in zip(heads, places, strict=True)
    ]
    prompts = golden_eval(golden)
    values = torch.cat(run(donor, read_sites, prompts=prompts, sites=sites)["values"], 1)
    return {"prompts": prompts, "heads": heads, "positions": places, "values": values}


@pytest.mark.parametrize("roles", [["last"], ["query_label"], ["prev_query_label"], ["last", "prev_query_label"]])
@pytest.mark.parametrize("gib", [5e-3, None])
def test_sets_are_answered_as_one_after_another(
    golden: dict[str, Tensor], golden_model: Model, golden_donor: Model, roles: list[str], gib: float | None
) -> None:
    inputs = given(golden, golden_donor, roles)
    count = len(inputs["heads"])
    sets = torch.rand(9, count, generator=torch.Generator().manual_seed(3)) < 0.3
    sets[0], sets[1] = True, False
    found = run(golden_model, transplanted_answers, **inputs, moved=[sets[:4], sets[4:]], gib=gib)
    patches = [
        {"component": "z", "layer": layer, "heads": [head], "position": place, "values": inputs["values"][:, [number]]}
        for number, ((layer, head), place) in enumerate(zip(inputs["heads"], inputs["positions"], strict=True))
    ]
    variants = [chosen.nonzero().flatten().tolist() for chosen in sets]
    one_by_one = run(golden_model, answer_patched, prompts=inputs["prompts"], patches=patches, variants=variants)
    assert torch.equal(found["prediction"], one_by_one["prediction"])
    torch.testing.assert_close(found["probability"], one_by_one["probability"], atol=1e-5, rtol=1e-3)
    own = run(golden_model, answer, prompts=inputs["prompts"])["prediction"]
    assert torch.equal(found["own"], own)
    assert torch.equal(found["prediction"][1], own)
    assert torch.equal(found["prediction"][0], own) == (roles == ["prev_query_label"])


def test_a_set_is_answered_as_naively(golden: dict[str, Tensor], golden_model: Model, golden_donor: Model) -> None:
    """Whole forward passes with hooks, in both models."""
    inputs = given(golden, golden_donor, ["query_label"])
    sets = torch.rand(5, len(inputs["heads"]), generator=torch.Generator().manual_seed(1)) < 0.4
    found = run(golden_model, transplanted_answers, **inputs, moved=[sets], gib=None)["prediction"]
    base = golden_model.envoy._module
    layout, given_prompts = layouts.layout_of(base), inputs["prompts"]
    prompts = Prompts(given_prompts["tokens"], given_prompts["mask"])
    rows, place = torch.arange(len(prompts)), inputs["positions"][0]
    for number, chosen in enumerate(sets):

        def put(layer: int, z: Tensor, chosen: Tensor = chosen) -> Tensor:
            patched = z.clone()
            for index, (where, head) in enumerate(inputs["heads"]):
                if chosen[index] and where == layer:
                    patched[rows, place, head] = inputs["values"][:, index]
            return patched

        with torch.no_grad(), editing(base, layout, "z", put):
            logits = prompts.logits_at(base, given_prompts["last"])
        assert torch.equal(found[number], logits.argmax(-1))


def test_a_part_without_heads_is_the_model_itself(
    golden: dict[str, Tensor], golden_model: Model, golden_donor: Model
) -> None:
    inputs = given(golden, golden_donor, ["last"])
    none = torch.zeros(2, len(inputs["heads"]), dtype=torch.bool)
    moved = [none, ~none[:1]]
    found = run(golden_model, transplanted_answers, **inputs, moved=moved, gib=None)
    own = run(golden_model, answer, prompts=inputs["prompts"])
    for name in ("prediction", "probability"):
        assert torch.equal(found[name][:2], own[name].expand(2, -1))
    assert not torch.equal(found["prediction"][2], own["prediction"])


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "olmo2", "gemma2", "gemma3_text", "phi3"])
def test_its_own_z_changes_nothing_in_any_architecture(architecture: str) -> None:
    from tests.engine.test_dcm import wrapped

    _, model = wrapped(architecture)
    tokens = torch.randint(4, 30, (3, 9), generator=torch.Generator().manual_seed(0))
    last = torch.tensor([8, 8, 8])
    prompts = {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": tokens[:, 0]}
    heads = [[layer, head] for layer in range(model.anatomy["n_layers"]) for head in range(model.anatomy["n_heads"])]
    place = torch.tensor([2, 5, 8])
    sites = [{"component": "z", "layer": layer, "heads": [head], "position": place} for layer, head in heads]
    values = torch.cat(run(model, read_sites, prompts=prompts, sites=sites)["values"], 1)
    sets = torch.rand(4, len(heads), generator=torch.Generator().manual_seed(0)) < 0.5
    found = run(
        model, transplanted_answers, prompts=prompts, heads=heads, positions=place.repeat(len(heads), 1),
        values=values, moved=[sets], gib=1e-4,
    )  # fmt: skip
    assert torch.equal(found["prediction"], found["own"].expand(4, 3))
    assert architecture in tiny.ARCHITECTURES
