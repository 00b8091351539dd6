"""Texts as tensors: token ids, and which tokens are answers, by the tokenizer's own offsets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from donor_tuning.corpora import Text


@dataclass(frozen=True)
class Batch:
    """Texts, padded on the right.

    Attributes:
        tokens: Token ids.
        real: True where a token is no padding.
        answers: True where a token has a sign of an answer.
    """

    tokens: Int[Tensor, "row position"]
    real: Bool[Tensor, "row position"]
    answers: Bool[Tensor, "row position"]


def collate(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> Batch:
    """Turn texts into one batch; special tokens at the start are neither answers nor asked for."""
    rows, marks = zip(*(_encode(text, tokenizer) for text in texts), strict=True)
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    real, answers = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
    for row, (ids, marked) in enumerate(zip(rows, marks, strict=True)):
        tokens[row, : len(ids)] = torch.tensor(ids)
        real[row, : len(ids)] = True
        answers[row, : len(ids)] = torch.tensor(marked)
    return Batch(tokens, real, answers)


def _encode(text: Text, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    """The tokens of a text, and which of them end within an answer."""
    spans, length = [], 0
    for piece in text:
        if piece.answer:
            spans.append((length, length + len(piece.text)))
        length += len(piece.text)
    encoded = tokenizer("".join(piece.text for piece in text), return_offsets_mapping=True)
    ends = [end if end > start else -1 for start, end in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), [any(first < end <= last for first, last in spans) for end in ends]
