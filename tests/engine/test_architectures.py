"""Path patching on a randomly initialised model of every architecture class: fast = naive."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from nnsight import TransformersModel
from transformers import PreTrainedTokenizerFast

from entitrack.engine.anatomy import unembed, unembed_words
from entitrack.engine.path_patching import path_effects
from entitrack.models.anatomy import ARCHITECTURES, describe
from entitrack.models.family import Model
from entitrack.models.identity import Identity
from entitrack.runtime.backends import Local
from tests.naive import layouts, path_patching, tiny
from tests.naive.prompts import Prompts

N, LENGTH = 5, 12


def wrapped(architecture: str) -> tuple[Any, Model]:
    module = tiny.tiny(architecture)
    envoy = TransformersModel(module, task="text-generation", tokenizer=tokenizer())
    return module, Model.of(architecture, envoy, describe(module.config), Identity(architecture))


def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>")


def ragged(seed: int, padding: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random prompts of 9 to 12 tokens: tokens, mask and index of the last token."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 32, (N, LENGTH), generator=generator)
    lengths = torch.tensor([12, 9, 11, 12, 10])
    mask = (torch.arange(LENGTH)[None] < lengths[:, None]).long()
    if padding == "left":
        return tokens, mask.flip(1), torch.full((N,), LENGTH - 1)
    return tokens, mask, lengths - 1


@pytest.fixture(autouse=True)
def _nothing_is_deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers logs only once in a process is an error every time."""

    def refuse(self: logging.Logger, message: str, *_: Any) -> None:
        assert "deprecated" not in message, message

    monkeypatch.setattr(logging.Logger, "warning_once", refuse)


@pytest.mark.filterwarnings("error:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("component", ["logits", "q", "k", "v"])
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_fast_is_naive(architecture: str, component: str, padding: str) -> None:
    module, model = wrapped(architecture)
    tokens, mask, last = ragged(1, padding)
    others, other_mask, other_last = ragged(2, padding)
    back = torch.zeros(N, dtype=torch.long) if component in ("logits", "q") else torch.tensor([1, 3, 2, 5, 2])
    heads = [[1, head] for head in ((0, 3) if component == "q" else (1,))]
    answers = torch.arange(N) + 3
    layout = layouts.layout_of(module)
    receivers = (
        None if component == "logits" else path_patching.Receivers(component, [(layer, head) for layer, head in heads])
    )
    expected = path_patching.path_effects(
        module,
        layout,
        Prompts(tokens, mask),
        Prompts(others, other_mask),
        answers,
        path_patching.Path(last - back, other_last - 1, last, receivers),
    )
    inputs = {
        "anatomy": model.anatomy,
        "clean": {"tokens": tokens, "mask": mask, "position": last - back, "last": last, "answers": answers},
        "source": {"tokens": others, "mask": other_mask, "position": other_last - 1},
        "senders": [list(range(4))] * 2,
        "receivers": {"component": component, **({} if component == "logits" else {"heads": heads})},
        "gib": 1e-4,
    }
    found = Local().run(model, path_effects, inputs)["effect"]
    scale = expected.abs().max().clamp(min=1)
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_a_few_words_have_the_logits_that_they_have_among_all(architecture: str, bias: bool) -> None:
    """By rows of the unembedding; with a bias, which no row has, by all of it."""
    module = tiny.tiny(architecture)
    head = module.get_output_embeddings()
    if bias:
        head.bias = torch.nn.Parameter(torch.randn(head.out_features))
    anatomy = describe(module.config)
    generator = torch.Generator().manual_seed(4)
    hidden = 9 * torch.randn(N, 2, module.config.hidden_size, generator=generator)
    words = torch.randint(0, head.out_features, (N, 2, 3), generator=generator)
    expected = unembed(module, anatomy, hidden).gather(-1, words)
    torch.testing.assert_close(unembed_words(module, anatomy, hidden, words), expected, atol=1e-5, rtol=1e-5)
