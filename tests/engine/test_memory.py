"""Pieces: every unit once, within the budget, whatever happens on the way."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nnsight import TransformersModel
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from entitrack.engine.circuits import circuit_answers
from entitrack.engine.memory import PROBE_TOKENS, in_pieces, measured
from entitrack.engine.transplants import transplanted_answers
from entitrack.models.anatomy import describe
from entitrack.models.family import Model
from entitrack.models.identity import Identity
from entitrack.runtime.backends import Local
from tests.engine.test_architectures import tokenizer

CPU = torch.device("cpu")
MIB = 1 << 18  # floats


def test_the_meter_counts_what_is_alive_at_once() -> None:
    def work() -> Tensor:
        first = torch.zeros(MIB)
        second = first + 1
        del first
        third = second.view(2, -1)  # no bytes of its own
        return third * 2

    result, peak = measured(CPU, work)
    assert result.shape == (2, MIB // 2)
    assert peak == pytest.approx(2 * MIB * 4, rel=0.01)


@pytest.mark.parametrize("mib", [0.5, 3.0, 1000.0])
def test_every_unit_is_done_once_within_the_budget(mib: float) -> None:
    sizes: list[int] = []

    def work(units: Tensor) -> Tensor:
        sizes.append(len(units))
        return torch.zeros(len(units), MIB // 4).sum(1) + units  # a quarter of a MiB each

    results, peak = in_pieces(40, 128, mib / 1024, CPU, work)
    assert torch.equal(torch.cat(results), torch.arange(40.0))
    first = PROBE_TOKENS // 128
    most = max(first, int(mib * 4))
    assert all(size <= most for size in sizes)
    assert peak <= max(mib, first / 4) * (1 << 20) * 1.01


def test_running_out_of_memory_halves_the_pieces() -> None:
    sizes: list[int] = []

    def work(units: Tensor) -> Tensor:
        if len(units) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(units))
        return units

    results, _ = in_pieces(50, 128, 1.0, CPU, work)
    assert torch.equal(torch.cat(results), torch.arange(50))
    assert max(sizes) > 2


def test_a_unit_that_does_not_fit_and_other_errors_are_raised() -> None:
    def too_large(units: Tensor) -> Tensor:
        if units[0] > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return units

    with pytest.raises(RuntimeError, match="can't allocate"):
        in_pieces(9, 128, 1.0, CPU, too_large)

    def wrong(units: Tensor) -> Tensor:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_pieces(9, 128, 1.0, CPU, wrong)


@pytest.fixture(scope="module")
def wordy() -> Model:
    """A model whose vocabulary is large beside the rest of it."""
    config = LlamaConfig(
        vocab_size=4000, hidden_size=64, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval()
    envoy = TransformersModel(module, task="text-generation", tokenizer=tokenizer())
    return Model.of("wordy", envoy, describe(module.config), Identity("wordy"))


def prompts() -> Any:
    tokens = torch.randint(4, 4000, (3, 24), generator=torch.Generator().manual_seed(0))
    last = torch.full((3,), 23)
    return {
        "tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "answers": tokens[:, 0],
        "rivals": tokens[:, 1:3],
    }  # fmt: skip


def sets_of_heads(place: int) -> tuple[Any, dict[str, Any]]:
    """Transplants of many sets of heads at one token."""
    heads = [[layer, head] for layer in range(4) for head in range(4)]
    generator = torch.Generator().manual_seed(1)
    return transplanted_answers, {
        "heads": heads,
        "positions": torch.full((len(heads), 3), place),
        "values": torch.randn(3, len(heads), 16, generator=generator),
        "moved": [torch.rand(100, len(heads), generator=generator) < 0.5],
    }


def many_circuits(_: int) -> tuple[Any, dict[str, Any]]:
    circuits = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    return circuit_answers, {
        "fill": {"values": torch.zeros(4, 24, 64)},
        "positions": torch.tensor([[3, 20, 23]]).expand(3, -1),
        "reference": circuits[0],
        "circuits": circuits,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "place"), [(sets_of_heads, 23), (sets_of_heads, 8), (many_circuits, 0)])
def test_what_goes_through_at_once_keeps_to_the_budget(wordy: Model, asked: Any, place: int) -> None:
    """What is there in any case comes on top: the model's own run, the sets, the answers."""
    function, inputs = asked(place)
    inputs |= {"anatomy": wordy.anatomy, "prompts": prompts()}
    gib = 2 / 1024
    peaks, answers = {}, {}
    for budget in (1e-9, gib, 1.0):
        found, peaks[budget] = measured(CPU, lambda: Local().run(wordy, function, {**inputs, "gib": budget}))  # noqa: B023
        answers[budget] = found["probability"]
    torch.testing.assert_close(answers[gib], answers[1.0], atol=1e-6, rtol=1e-4)
    assert peaks[gib] - peaks[1e-9] < gib * 2**30
    assert peaks[1.0] - peaks[1e-9] > gib * 2**30, "the budget spares nothing"
