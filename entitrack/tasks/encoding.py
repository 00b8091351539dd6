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
    encoded = _encoded(prompts, tokenizer)
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


def _encoded(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> list[_Encoded]:
    """Every prompt by itself; the tokenizer is called twice for all, since a call costs more than a prompt."""
    encodings = tokenizer([prompt.text for prompt in prompts], return_offsets_mapping=True)
    answered = tokenizer([continued(prompt.text, prompt.answer) for prompt in prompts])["input_ids"]
    rows = zip(prompts, encodings["input_ids"], encodings["offset_mapping"], answered, strict=True)
    found = []
    for number, (prompt, ids, offsets, full) in enumerate(rows):
        place = origin_of(prompt, number)
        _check_ids(place, prompt, ids, offsets, tokenizer)
        roles = {role: _token_at(span, offsets, place, role) for role, span in role_spans(prompt).items()}
        roles[LAST] = len(ids) - 1
        found.append(_Encoded(ids, roles, _first_token(prompt.answer, ids, full, tokenizer, place)))
    return found


def _check_ids(
    place: str, prompt: Prompt, ids: Sequence[int], offsets: Sequence[Span], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a prompt with a word that the tokenizer does not know, or of which it makes nothing."""
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in ids:
        start, end = offsets[ids.index(unknown)]
        word = prompt.text[start:end]
        raise UserError(place, f"the tokenizer does not know {quoted(word)}", fix="use words of its vocabulary")
    if not ids:
        raise UserError(place, "the tokenizer makes no token of it")


def _token_at(span: Span, offsets: Sequence[Span], place: str, role: str) -> int:
    """The last token that overlaps a span of characters."""
    for index in range(len(offsets) - 1, -1, -1):
        start, end = offsets[index]
        if start < span[1] and end > span[0]:
            return index
    raise UserError(place, f"no token covers the characters {span} of role {role!r}")


def _first_token(
    word: str, ids: Sequence[int], full: Sequence[int], tokenizer: PreTrainedTokenizerBase, place: str
) -> int:
    """The first token of a word where it follows a text, of the tokens of the text and of both."""
    if list(full[: len(ids)]) != list(ids) or len(full) == len(ids):
        raise UserError(place, f"the tokenizer glues the answer {quoted(word)} to the prompt's last token")
    if full[len(ids)] == tokenizer.unk_token_id and tokenizer.unk_token_id is not None:
        raise UserError(place, f"the tokenizer does not know the answer {quoted(word)}")
    return full[len(ids)]


def first_tokens(
    prompts: Sequence[Prompt], words: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """The first token of each of some words where it follows a prompt.

    Args:
        prompts: The prompts.
        words: Words by prompt.
        tokenizer: The tokenizer.

    Raises:
        UserError: Adding a word changes the prompt's own tokens, or adds none or an unknown one. It names where the
            prompt comes from.
    """
    texts = [continued(prompt.text, word) for prompt, asked in zip(prompts, words, strict=True) for word in asked]
    if not texts:
        return [[] for _ in prompts]
    own = tokenizer([prompt.text for prompt in prompts])["input_ids"]
    full = iter(tokenizer(texts)["input_ids"])
    return [
        [_first_token(word, ids, next(full), tokenizer, origin_of(prompt, number)) for word in asked]
        for number, (prompt, ids, asked) in enumerate(zip(prompts, own, words, strict=True))
    ]


def check_first_tokens(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse prompts whose answer cannot be told from another by its first token, which is all that is looked at.

    Args:
        prompts: Prompts; those that offer no other answers pass.
        tokenizer: The tokenizer.

    Raises:
        UserError: See `first_tokens`; or it names the first prompt in which two answers begin with one token, which
            these are, and which words must go for no prompt to have such.
    """
    words = [sorted({prompt.answer, *getattr(prompt, "alternatives", ())}) for prompt in prompts]
    found = first_tokens(prompts, [asked if len(asked) > 1 else () for asked in words], tokenizer)
    complaint, gone = None, set()
    for number, (prompt, asked, tokens) in enumerate(zip(prompts, words, found, strict=True)):
        same = _same_first_token(asked, tokens) if tokens else []
        if same and complaint is None:
            alike = " and ".join(quoted(word) for word in same[0])
            complaint = (origin_of(prompt, number), f"{alike} begin with one token")
        gone |= {word for group in same for word in group[1:]}
    if complaint:
        place, problem = complaint
        fix = f"use other words (task=boxes: task.without=[{','.join(sorted(gone))}])"
        raise UserError(place, f"{problem}, the only one that answers are told by", fix=fix)


def _same_first_token(words: Sequence[str], tokens: Sequence[int]) -> list[list[str]]:
    """Which of some words begin with one token."""
    groups: dict[int, list[str]] = {}
    for word, token in zip(words, tokens, strict=True):
        groups.setdefault(token, []).append(word)
    return [group for group in groups.values() if len(group) > 1]


def alternative_tokens(
    prompts: Sequence[Question], tokenizer: PreTrainedTokenizerBase
) -> Int[Tensor, "batch alternative"]:
    """First tokens of the answers that each context offers besides the right one, where they follow the prompt.

    Raises:
        UserError: See `first_tokens`; or prompts offer different numbers of answers, or none.
    """
    counts = [len(prompt.alternatives) for prompt in prompts]
    for number, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
        place = origin_of(prompt, number)
        if not count:
            raise UserError(place, "its context offers no other answer", fix="use two boxes or more")
        if count != counts[0]:
            problem = f"its context offers {count} other answers, that of {origin_of(prompts[0], 0)} {counts[0]}"
            raise UserError(place, problem, fix="use one number of boxes")
    return torch.tensor(first_tokens(prompts, [prompt.alternatives for prompt in prompts], tokenizer))


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
