"""Components without heads, ablated: as plain hooks have it, for every component, layer and position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.components import WITHOUT_HEADS
from entitrack.engine.component_ablation import answer_ablated, total_components
from entitrack.runtime.backends import Local, dry_run
from tests.engine.test_architectures import wrapped
from tests.naive import components as naive
from tests.naive import layouts
from tests.naive.prompts import Prompts

N, LENGTH = 4, 9
POSITIONS = torch.tensor([[8, 8, 8, 8], [2, 5, 3, 7]])
NAMES = list(WITHOUT_HEADS)


def drawn(seed: int) -> Tensor:
    return torch.randint(3, 32, (N, LENGTH), generator=torch.Generator().manual_seed(seed))


def expected(module: Any, tokens: Tensor, others: Tensor, ablation: str) -> Tensor:
    """Logits, variant by variant, of hooks that know nothing of the engine."""
    layout, plain = layouts.layout_of(module), Prompts(tokens, torch.ones_like(tokens))
    background = Prompts(others, torch.ones_like(others))
    logits = [plain.logits_at(module, POSITIONS[0])]
    for name in NAMES:
        for layer in (0, 1):
            for position in POSITIONS:
                if ablation == "mean":  # of the background prompts, each at the same token index as the clean one
                    at_each = [
                        naive.read_component(module, layout, background, name, layer, index.expand(N)).mean(0)
                        for index in position
                    ]
                    values = torch.stack(at_each)
                else:
                    values = naive.read_component(module, layout, background, name, layer, position)
                values = torch.zeros_like(values) if ablation == "zero" else values
                where = (name, layer, position, values, POSITIONS[0])
                logits.append(naive.component_patched_logits(module, layout, plain, *where))
    return torch.stack(logits)


@pytest.mark.parametrize("backend", [Local(), dry_run()], ids=["local", "dry_run"])
@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt_neox"])
def test_every_site_is_ablated_as_hooks_do(architecture: str, ablation: str, backend: Local) -> None:
    module, model = wrapped(architecture)
    tokens, others = drawn(1), drawn(2)
    ones = torch.ones_like(tokens)
    rivals = torch.tensor([[20, 21]] * N)
    prompts = {"tokens": tokens, "mask": ones, "last": POSITIONS[0], "answers": torch.arange(N) + 3, "rivals": rivals}
    fill: dict[str, Any] = {"tokens": others, "mask": ones} if ablation == "resample" else {}
    if ablation == "mean":
        given = {"anatomy": model.anatomy, "prompts": {"tokens": others, "mask": ones}, "components": NAMES}
        fill = {"values": backend.run(model, total_components, given)["total"] / N}
    asked = {"anatomy": model.anatomy, "prompts": prompts, "fill": fill, "positions": POSITIONS, "components": NAMES}
    found = backend.run(model, answer_ablated, asked)
    logits = expected(module, tokens, others, ablation)
    assert found["prediction"].shape == (1 + len(NAMES) * 2 * 2, N)
    answers = prompts["answers"].expand(len(logits), N)[..., None]
    right = logits.gather(2, answers)[..., 0]
    margin = right - logits[..., 20:22].amax(-1)
    torch.testing.assert_close(found["margin"], margin, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        found["probability"].log(), logits.log_softmax(-1).gather(2, answers)[..., 0], atol=2e-3, rtol=0
    )
    assert torch.equal(found["prediction"], logits.argmax(-1))
