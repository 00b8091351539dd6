"""How logits stand to the right answers, however large the vocabulary is."""

from __future__ import annotations

import pytest
import torch

from entitrack.engine.answers import AT_ONCE, answer_probability


@pytest.mark.parametrize("words", [50, AT_ONCE // 2 - 1, AT_ONCE + 1], ids=["few", "two rows at once", "one at a time"])
def test_probabilities_are_those_of_softmax(words: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(3, 2, words, generator=generator)
    answers = torch.randint(words, (3,), generator=generator)
    expected = torch.stack([row.double().softmax(-1)[:, answer] for row, answer in zip(logits, answers, strict=True)])
    torch.testing.assert_close(answer_probability(logits, answers).double(), expected, rtol=1e-5, atol=0)


def test_slopes_are_those_of_softmax() -> None:
    logits = torch.randn(3, AT_ONCE // 2, requires_grad=True)
    answers = torch.tensor([0, 5, 7])
    found = torch.autograd.grad(answer_probability(logits, answers).sum(), logits)[0]
    expected = torch.autograd.grad(logits.softmax(-1).gather(1, answers[:, None]).sum(), logits)[0]
    torch.testing.assert_close(found, expected)
