"""From prompts to token ids and token positions, by the tokenizer's own offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.errors import UserError, quoted
from entitrack.tasks.protocol import LAST, Prompt, Question, Span, continued, origin_of, role_spans

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
        UserError: The tokenizer gives no offsets, does not know a word, or glues the answer to the prompt. It names
            where the prompt comes from.
    """
    _check_offsets(tokenizer)
    encoded = [_encode(origin_of(prompt, number), prompt, tokenizer) for number, prompt in enumerate(prompts)]
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
        if all(role in row.roles for row in encoded)
    }
    return EncodedBatch(tokens, mask, positions, torch.tensor([row.answer for row in encoded]))


def _check_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not say which characters a token has."""
    if not tokenizer.is_fast:
        raise UserError("model", f"{type(tokenizer).__name__} gives no offsets", fix="use a fast tokenizer")


def _encode(place: str, prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> _Encoded:
    encoding = tokenizer(prompt.text, return_offsets_mapping=True)
    ids, offsets = list(encoding["input_ids"]), encoding["offset_mapping"]
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in ids:
        start, end = offsets[ids.index(unknown)]
        word = prompt.text[start:end]
        raise UserError(place, f"the tokenizer does not know {quoted(word)}", fix="use words of its vocabulary")
    if not ids:
        raise UserError(place, "the tokenizer makes no token of it")
    roles = {role: _token_at(span, offsets, place, role) for role, span in role_spans(prompt).items()}
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
    return first_tokens(prompt.text, [prompt.answer], ids, tokenizer, place)[0]


def first_tokens(
    text: str, words: Sequence[str], ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, place: str
) -> list[int]:
    """The first token of each word where it follows a text.

    Args:
        text: The text.
        words: The words.
        ids: The text's own tokens.
        tokenizer: The tokenizer.
        place: Where the text comes from.

    Raises:
        UserError: Adding a word changes the text's own tokens, or adds none or an unknown one.
    """
    found = []
    for word, full in zip(words, tokenizer([continued(text, word) for word in words])["input_ids"], strict=True):
        if list(full[: len(ids)]) != list(ids) or len(full) == len(ids):
            raise UserError(place, f"the tokenizer glues the answer {quoted(word)} to the prompt's last token")
        if full[len(ids)] == tokenizer.unk_token_id and tokenizer.unk_token_id is not None:
            raise UserError(place, f"the tokenizer does not know the answer {quoted(word)}")
        found.append(full[len(ids)])
    return found


def check_first_tokens(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse prompts whose answer cannot be told from another by its first token, which is all that is looked at.

    Args:
        prompts: Prompts; those that offer no other answers pass.
        tokenizer: The tokenizer.

    Raises:
        UserError: See `first_tokens`; or it names the first prompt in which two answers begin with one token, which
            these are, and which words must go for no prompt to have such.
    """
    complaint, gone = None, set()
    for number, prompt in enumerate(prompts):
        words = sorted({prompt.answer, *getattr(prompt, "alternatives", ())})
        if len(words) < 2:
            continue
        place = origin_of(prompt, number)
        same = _same_first_token(prompt.text, words, tokenizer, place)
        if same and complaint is None:
            complaint = (place, f"{' and '.join(quoted(word) for word in same[0])} begin with one token")
        gone |= {word for group in same for word in group[1:]}
    if complaint:
        place, problem = complaint
        fix = f"use other words (task=boxes: task.without=[{','.join(sorted(gone))}])"
        raise UserError(place, f"{problem}, the only one that answers are told by", fix=fix)


def _same_first_token(
    text: str, words: Sequence[str], tokenizer: PreTrainedTokenizerBase, place: str
) -> list[list[str]]:
    """Which of some words begin with one token where they follow a text."""
    groups: dict[int, list[str]] = {}
    for word, token in zip(
        words, first_tokens(text, words, tokenizer(text)["input_ids"], tokenizer, place), strict=True
    ):
        groups.setdefault(token, []).append(word)
    return [group for group in groups.values() if len(group) > 1]


def alternative_tokens(
    prompts: Sequence[Question], tokenizer: PreTrainedTokenizerBase
) -> Int[Tensor, "batch alternative"]:
    """First tokens of the answers that each context offers besides the right one, where they follow the prompt.

    Raises:
        UserError: See `first_tokens`; or prompts offer different numbers of answers, or none.
    """
    rows: list[list[int]] = []
    for number, prompt in enumerate(prompts):
        place, words = origin_of(prompt, number), list(prompt.alternatives)
        if not words:
            raise UserError(place, "its context offers no other answer", fix="use two boxes or more")
        if rows and len(words) != len(rows[0]):
            problem = (
                f"its context offers {len(words)} other answers, that of {origin_of(prompts[0], 0)} {len(rows[0])}"
            )
            raise UserError(place, problem, fix="use one number of boxes")
        rows.append(first_tokens(prompt.text, words, tokenizer(prompt.text)["input_ids"], tokenizer, place))
    return torch.tensor(rows)


def template_positions(
    prompts: Sequence[Question], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Int[Tensor, "batch token"]]:
    """Token indices of every place of the template, and of the start: the tokens that no place covers.

    Raises:
        UserError: A place has different numbers of tokens in different prompts.
    """
    _check_offsets(tokenizer)
    found: dict[str, list[list[int]]] = {}
    for number, prompt in enumerate(prompts):
        offsets = tokenizer(prompt.text, return_offsets_mapping=True)["offset_mapping"]
        covered: dict[str, list[int]] = {name: [] for name in ("start", *prompts[0].template)}
        if prompt.template.keys() != prompts[0].template.keys():
            problem = f"does not have the places that {origin_of(prompts[0], 0)} has"
            raise UserError(origin_of(prompt, number), problem, fix="use one number of boxes")
        for index, (start, end) in enumerate(offsets):
            at = [name for name, spans in prompt.template.items() if any(start < b and end > a for a, b in spans)]
            covered[at[-1] if at else "start"].append(index)
        for name, indices in covered.items():
            rows = found.setdefault(name, [])
            rows.append(indices)
            if len(indices) != len(rows[0]):
                problem = f"{name!r} has {len(indices)} tokens, and {len(rows[0])} in {origin_of(prompts[0], 0)}"
                fix = "use one number of boxes, and words that the tokenizer does not split"
                raise UserError(origin_of(prompt, number), problem, fix=fix)
    return {name: torch.tensor(rows) for name, rows in found.items() if rows[0]}
