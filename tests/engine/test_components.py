"""Every component without heads, read and replaced, on every architecture: as plain hooks have it; and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.components import COMPONENTS, WITH_HEADS, WITHOUT_HEADS
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.models.anatomy import ARCHITECTURES
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, dry_run
from tests.engine.test_architectures import N, ragged, wrapped
from tests.naive import components as naive
from tests.naive import layouts, tiny
from tests.naive.prompts import Prompts

BACK = torch.tensor([1, 3, 0, 5, 2])


def run(model: Model, function: Any, backend: Local | None = None, **inputs: Any) -> Any:
    return (backend or Local()).run(model, function, {"anatomy": model.anatomy, **inputs})


def asked(seed: int, padding: str) -> dict[str, Tensor]:
    tokens, mask, last = ragged(seed, padding)
    return {"tokens": tokens, "mask": mask, "last": last, "answers": torch.arange(N) + 3}


def probability(logits: Tensor, answers: Tensor) -> Tensor:
    return logits.softmax(-1).gather(1, answers[:, None])[:, 0]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("component", WITHOUT_HEADS)
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_components_are_as_hooks_have_them(architecture: str, component: str, padding: str) -> None:
    """Values of other prompts put in, zeros, and one value for all prompts, in each layer."""
    module, model = wrapped(architecture)
    layout = layouts.layout_of(module)
    prompts, others = asked(1, padding), asked(2, padding)
    position, read_at = prompts["last"] - BACK, others["last"] - BACK
    plain = Prompts(prompts["tokens"], prompts["mask"])
    sites = [{"component": component, "layer": layer, "position": read_at} for layer in (0, 1)]
    read = run(model, read_sites, prompts=others, sites=sites)["values"]
    patches, expected = [], []
    for layer in (0, 1):
        other = Prompts(others["tokens"], others["mask"])
        values = naive.read_component(module, layout, other, component, layer, read_at)
        torch.testing.assert_close(read[layer], values, atol=1e-4, rtol=1e-4)
        for new in (values, torch.zeros_like(values[:1]), values.mean(0, keepdim=True)):
            patches.append({"component": component, "layer": layer, "position": position, "values": new})
            logits = naive.component_patched_logits(
                module, layout, plain, component, layer, position, new.expand_as(values), prompts["last"]
            )
            expected.append(probability(logits, prompts["answers"]))
    variants = [[number] for number in range(len(patches))]
    found = run(model, answer_patched, prompts=prompts, patches=patches, variants=[[], *variants])["probability"]
    torch.testing.assert_close(found[1:].log(), torch.stack(expected).log(), atol=2e-3, rtol=0)
    assert (found[1:].log() - found[0].log()).abs().amax(1).min() > 5e-3


@pytest.mark.parametrize("backend", [Local(), dry_run()], ids=["local", "dry_run"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox", "phi3", "olmo2"])
def test_a_run_patched_with_itself_is_itself(architecture: str, backend: Local) -> None:
    """All components of all layers at once, at several positions."""
    _, model = wrapped(architecture)
    prompts = asked(1, "left")
    sizes = {"k": model.anatomy["n_kv_heads"], "v": model.anatomy["n_kv_heads"]}
    sites: list[dict[str, Any]] = []
    for layer in (1, 0):
        for component in reversed(COMPONENTS):
            heads = list(range(sizes.get(component, 4)))
            site = {"component": component, "layer": layer, "position": prompts["last"] - BACK}
            sites.append({**site, "heads": heads} if component in WITH_HEADS else site)
    read = run(model, read_sites, backend, prompts=prompts, sites=sites)
    patches = [{**site, "values": values} for site, values in zip(sites, read["values"], strict=True)]
    variants = [[], list(range(len(patches)))]
    found = run(model, answer_patched, backend, prompts=prompts, patches=patches, variants=variants)
    torch.testing.assert_close(found["probability"][1], read["probability"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["probability"][0], read["probability"])


def test_the_stream_at_the_last_token_of_the_last_layer_is_all_that_is_read() -> None:
    """The stream in front of the last layer's MLP carries the other prompt's answer over."""
    _, model = wrapped("llama")
    prompts, others = asked(1, "right"), asked(2, "right")
    site = {"component": "resid_mid", "layer": 1}
    read = run(model, read_sites, prompts=others, sites=[{**site, "position": others["last"]}])
    patch = {**site, "position": prompts["last"], "values": read["values"][0]}
    found = run(model, answer_patched, prompts=prompts, patches=[patch], variants=[[0]])
    torch.testing.assert_close(found["probability"][0], read["probability"], atol=1e-5, rtol=1e-4)
