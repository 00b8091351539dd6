"""Attention knockout: the naive twin on every architecture, and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.knockout import knockout_answers
from entitrack.models.anatomy import ARCHITECTURES
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, dry_run
from tests.engine.test_ablation import golden_prompts, probability
from tests.engine.test_architectures import wrapped
from tests.naive import golden as golden_data
from tests.naive import knockout as naive
from tests.naive import layouts, tiny
from tests.naive.prompts import Prompts

SOURCE = torch.tensor([8, 6, 7, 5, 8])
TARGETS = torch.tensor([[0, 2, 6, 4, 7], [5, 5, 1, 2, 3]])


def prompts() -> dict[str, Tensor]:
    """Prompts of 9 tokens, one of them shorter, padded on the right."""
    tokens = torch.randint(1, 32, (5, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    mask[2, 8:] = 0
    last = mask.sum(1) - 1
    rivals = torch.arange(10, 14).expand(5, -1)
    return {"tokens": tokens, "mask": mask, "last": last, "answers": torch.arange(5) + 3, "rivals": rivals}


def run(model: Model, backend: Local | None = None, **inputs: Any) -> dict[str, Tensor]:
    arguments = {"anatomy": model.anatomy, "gib": None, **inputs}
    return (backend or Local()).run(model, knockout_answers, arguments)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_fast_is_naive(architecture: str) -> None:
    module, model = wrapped(architecture)
    asked, layout = prompts(), layouts.layout_of(module)
    found = run(model, prompts=asked, source=SOURCE, targets=TARGETS)["probability"]
    assert found.shape == (2, 3, 5)
    for number, target in enumerate(TARGETS):
        for first in range(3):
            plain = Prompts(asked["tokens"], asked["mask"])
            logits = naive.knockout_logits(module, layout, plain, SOURCE, target, first, asked["last"])
            expected = probability(logits, asked["answers"])
            torch.testing.assert_close(found[number, first], expected, atol=1e-4, rtol=0)
    assert (found[:, 0] - found[:, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("backend", [Local(), dry_run()], ids=["local", "dry_run"])
def test_fast_is_naive_on_the_golden_model(golden_model: Model, golden: dict[str, Tensor], backend: Local) -> None:
    asked = golden_prompts(golden)["prompts"]
    where = golden_data.roles(asked["tokens"], asked["last"])
    source, target = where["pos_detector"], where["struct_reader"]
    found = run(golden_model, backend, prompts=asked, source=source, targets=target[None])
    plain = golden_data.model("base")
    layout = layouts.layout_of(plain)
    for first in range(5):
        arguments = (Prompts(asked["tokens"]), source, target, first, asked["last"])
        logits = naive.knockout_logits(plain, layout, *arguments)
        assert (found["prediction"][0, first] == logits.argmax(1)).all()
        expected = probability(logits, asked["answers"])
        torch.testing.assert_close(found["probability"][0, first], expected, atol=1e-4, rtol=0)


def test_results_do_not_depend_on_chunks_and_targets_do_not_see_each_other() -> None:
    _, model = wrapped("mistral")
    asked = prompts()
    whole = run(model, prompts=asked, source=SOURCE, targets=TARGETS)
    pieces = run(model, prompts=asked, source=SOURCE, targets=TARGETS, gib=1e-9)
    alone = run(model, prompts=asked, source=SOURCE, targets=TARGETS[1:])
    torch.testing.assert_close(pieces["margin"], whole["margin"], atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(alone["margin"][0], whole["margin"][1], atol=2e-4, rtol=1e-4)
