"""Accuracy: it counts right answers, however prompts are batched."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from entitrack.errors import UserError
from entitrack.methods import evaluate
from entitrack.methods.experiment import Experiment
from entitrack.tasks.encoding import encode


def test_accuracy_is_the_share_of_right_answers(golden_experiment: Experiment) -> None:
    result = evaluate.run(golden_experiment, evaluate.Settings(models=["base"]))
    module = golden_experiment.base().envoy._module
    prompts = golden_experiment.task.prompts()
    batch = encode(prompts, golden_experiment.family.tokenizer)
    with torch.no_grad():
        predicted = module(batch.tokens).logits[:, -1].argmax(-1)
    expected = predicted == batch.answers
    (found,) = result.answers
    assert torch.equal(found.correct, expected)
    assert found.accuracy().value == pytest.approx(expected.float().mean().item())
    for query in range(7):
        assert found.accuracy(query).value == pytest.approx(expected[query::7].float().mean().item())
        assert found.accuracy(query).n == 6


@pytest.mark.parametrize("batch_size", [5, 42])
def test_the_size_of_batches_does_not_matter(golden_experiment: Experiment, batch_size: int) -> None:
    whole = evaluate.run(golden_experiment, evaluate.Settings())
    other = evaluate.run(
        dataclasses.replace(golden_experiment, batch_size=batch_size, padding="left"), evaluate.Settings()
    )
    for first, second in zip(whole.answers, other.answers, strict=True):
        assert torch.equal(first.correct, second.correct)


def test_every_member_is_evaluated_by_default(golden_experiment: Experiment) -> None:
    result = evaluate.run(golden_experiment, evaluate.Settings())
    assert result.tables[0].columns == ("context", "base", "donor", "twin", "n")
    arrays: dict[str, Tensor] = result.arrays
    assert torch.equal(arrays["base.7.correct"], arrays["twin.7.correct"])


def test_what_does_not_exist_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"method\.models\.0: family 'golden' has no member 'nope'"):
        evaluate.run(golden_experiment, evaluate.Settings(models=["nope"]))
    with pytest.raises(UserError, match=r"method\.boxes: task 'golden' has its own prompts"):
        evaluate.run(golden_experiment, evaluate.Settings(boxes=[2]))
