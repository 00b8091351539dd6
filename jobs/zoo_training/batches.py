"""What a corpus hands to training: token ids, which of them are answers, and the roles."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from zoo_training.vocabulary import PAD, Vocabulary


@dataclass(frozen=True)
class Example:
    """One generated text.

    Attributes:
        words: the text, one word a token, without BOS.
        answers: indices into `words` of the words the model is asked for.
        roles: indices into `words` of last, query_label and prev_query_label, or empty where the text
            has no such roles.
    """

    words: tuple[str, ...]
    answers: tuple[int, ...]
    roles: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """A batch of examples as tensors, BOS first, padded on the right.

    Attributes:
        tokens: token ids.
        answers: True where the token is an answer.
        real: True where the token is not padding.
        roles: token positions of the roles of each row, or None if the examples have none.
    """

    tokens: Int[Tensor, "row position"]
    answers: Bool[Tensor, "row position"]
    real: Bool[Tensor, "row position"]
    roles: Int[Tensor, "row role"] | None


Corpus = Callable[[random.Random, int], list[Example]]
"""Draws a number of examples from a seeded generator."""


def collate(examples: Sequence[Example], vocabulary: Vocabulary) -> Batch:
    """Turn examples into one batch; positions move by one because of BOS."""
    rows = [vocabulary.encode(example.words) for example in examples]
    width = max(map(len, rows))
    pad = vocabulary.ids[PAD]
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    answers = torch.zeros_like(tokens, dtype=torch.bool)
    for row, example in enumerate(examples):
        answers[row, [index + 1 for index in example.answers]] = True
    roles = None
    if all(example.roles for example in examples):
        roles = torch.tensor([[index + 1 for index in example.roles] for example in examples])
    return Batch(tokens, answers, tokens != pad, roles)
