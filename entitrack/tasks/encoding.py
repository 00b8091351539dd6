"""From prompts to token ids and token positions, by the tokenizer's own offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.errors import UserError
from entitrack.tasks.prompts import LAST, Prompt, Question, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedBatch:
    """Prompts as a model reads them.

    Attributes:
        tokens: Token ids, padded.
        mask: 1 where there is a token, 0 where there is padding.
        positions: Role -> index into the token axis, per prompt.
        answers: Token id of the answer, per prompt.
    """

    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]
    positions: Mapping[str, Int[Tensor, " batch"]]
    answers: Int[Tensor, " batch"]

    def __len__(self) -> int:
        """Number of prompts."""
        return self.tokens.shape[0]

    def __getitem__(self, rows: slice) -> EncodedBatch:
        """The prompts `rows`, with the same padding."""
        positions = {role: index[rows] for role, index in self.positions.items()}
        return EncodedBatch(self.tokens[rows], self.mask[rows], positions, self.answers[rows])


@dataclass(frozen=True)
class _Encoded:
    """One prompt: ids, and role -> token index before padding."""

    ids: list[int]
    roles: dict[str, int]
    answer: int


def encode(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, padding_side: str = "right") -> EncodedBatch:
    """Tokenize prompts and find their roles and answers.

    A role is the last token that overlaps its span, so words and letters that a tokenizer splits are
    read where they are complete.

    Args:
        prompts: What to encode.
        tokenizer: A fast tokenizer (it must give offsets).
        padding_side: `right` or `left`.

    Raises:
        UserError: The tokenizer gives no offsets, does not know a word, glues the answer to the prompt,
            or makes two different words of a prompt's vocabulary begin with one token.
    """
    if not tokenizer.is_fast:
        raise UserError("model", f"{type(tokenizer).__name__} gives no offsets", fix="use a fast tokenizer")
    encoded = [_encode(number, prompt, tokenizer) for number, prompt in enumerate(prompts)]
    width = max(len(row.ids) for row in encoded)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    tokens = torch.full((len(encoded), width), pad)
    mask = torch.zeros_like(tokens)
    shifts = [width - len(row.ids) if padding_side == "left" else 0 for row in encoded]
    for number, (row, shift) in enumerate(zip(encoded, shifts, strict=True)):
        tokens[number, shift : shift + len(row.ids)] = torch.tensor(row.ids)
        mask[number, shift : shift + len(row.ids)] = 1
    positions = {
        role: torch.tensor([row.roles[role] + shift for row, shift in zip(encoded, shifts, strict=True)])
        for role in encoded[0].roles
    }
    return EncodedBatch(tokens, mask, positions, torch.tensor([row.answer for row in encoded]))


def _encode(number: int, prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> _Encoded:
    place = f"prompt {number}"
    encoding = tokenizer(prompt.text, return_offsets_mapping=True)
    ids, offsets = list(encoding["input_ids"]), encoding["offset_mapping"]
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in ids:
        start, end = offsets[ids.index(unknown)]
        word = prompt.text[start:end]
        raise UserError(place, f"the tokenizer does not know {word!r}", fix="use words of its vocabulary")
    roles = {role: _token_at(span, offsets, place, role) for role, span in prompt.spans.items()}
    roles[LAST] = len(ids) - 1
    return _Encoded(ids, roles, answer_token(prompt, ids, tokenizer, place))


def _token_at(span: Span, offsets: Sequence[Span], place: str, role: str) -> int:
    """The last token that overlaps a span of characters."""
    inside = [index for index, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not inside:
        raise UserError(place, f"no token covers the characters {span} of role {role!r}")
    return inside[-1]


def answer_token(prompt: Prompt, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, place: str = "prompt") -> int:
    """The first token of the answer where it follows the prompt.

    Raises:
        UserError: Adding the answer changes the prompt's own tokens, or adds none.
    """
    return _following(prompt.text, prompt.answer, ids, tokenizer, place)


def _following(text: str, word: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, place: str) -> int:
    """The first token of a word where it follows a text."""
    full = list(tokenizer(f"{text} {word}")["input_ids"])
    if full[: len(ids)] != list(ids) or len(full) == len(ids):
        raise UserError(place, f"the tokenizer glues the answer {word!r} to the prompt's last token")
    if full[len(ids)] == tokenizer.unk_token_id and tokenizer.unk_token_id is not None:
        raise UserError(place, f"the tokenizer does not know the answer {word!r}")
    return full[len(ids)]


def alternative_tokens(
    prompts: Sequence[Question], tokenizer: PreTrainedTokenizerBase
) -> Int[Tensor, "batch alternative"]:
    """First tokens of the answers that each context offers besides the right one, where they follow the prompt.

    Raises:
        UserError: See `answer_token`; or prompts offer different numbers of answers, or none.
    """
    rows = []
    for number, prompt in enumerate(prompts):
        ids, place = list(tokenizer(prompt.text)["input_ids"]), f"prompt {number}"
        rows.append([_following(prompt.text, word, ids, tokenizer, place) for word in prompt.alternatives])
    if not rows[0] or len({len(row) for row in rows}) > 1:
        raise UserError("task", "contexts do not all offer the same number of other answers, at least one")
    return torch.tensor(rows)


def template_positions(
    prompts: Sequence[Question], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Int[Tensor, "batch token"]]:
    """Token indices of every place of the template, and of the start: the tokens that no place covers.

    Raises:
        UserError: A place has different numbers of tokens in different prompts.
    """
    found: dict[str, list[list[int]]] = {}
    for prompt in prompts:
        offsets = tokenizer(prompt.text, return_offsets_mapping=True)["offset_mapping"]
        covered: dict[str, list[int]] = {name: [] for name in ("start", *prompt.template)}
        for index, (start, end) in enumerate(offsets):
            at = [name for name, spans in prompt.template.items() if any(start < b and end > a for a, b in spans)]
            covered[at[-1] if at else "start"].append(index)
        for name, indices in covered.items():
            found.setdefault(name, []).append(indices)
    for name, rows in found.items():
        if len({len(row) for row in rows}) > 1:
            problem = f"{name!r} does not have the same number of tokens in every prompt"
            raise UserError("task", problem, fix="use words that the tokenizer does not split")
    return {name: torch.tensor(rows) for name, rows in found.items() if rows[0]}
