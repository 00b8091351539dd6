"""Roles come from the tokenizer's offsets, whatever it does to words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from entitrack.errors import UserError
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.encoding import encode
from entitrack.tasks.jsonl import parse_sentence
from entitrack.tasks.prompts import Span


def characters() -> PreTrainedTokenizerFast:
    """A tokenizer that splits every word into characters, with the space before it."""
    alphabet = {chr(code): code - 31 for code in range(32, 127)} | {"<unk>": 0}
    tokenizer = Tokenizer(models.WordLevel(alphabet, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")


def words(known: str, glue: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; with `glue`, of whole texts between commas."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", *known.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(",", "isolated") if glue else pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")


SENTENCE = "The book is in Box Q, the key is in Box X. Box X contains the"


def test_split_words_are_read_at_their_last_token() -> None:
    prompts = Boxes(count=14).prompts()
    for side in ("right", "left"):
        batch = encode(prompts, characters(), side)
        for row, prompt in enumerate(prompts):
            start = int(batch.mask[row].argmax())
            for role, (_, end) in prompt.spans.items():
                assert int(batch.positions[role][row]) - start == end - 1
            assert int(batch.positions["last"][row]) - start == len(prompt.text) - 1


def test_padding_keeps_every_role_on_its_token() -> None:
    tokenizer = words("The the book key is in Box Q X , . contains")
    short = parse_sentence("The book is in Box Q. Box Q contains the")
    for side in ("right", "left"):
        batch = encode([parse_sentence(SENTENCE), short], tokenizer, side)
        assert batch.mask.sum(1).tolist() == [18, 11]
        expected = {"query_label": ["X", "Q"], "correct_object": ["key", "book"], "last": ["the", "the"]}
        for role, word in expected.items():
            read = [tokenizer.decode(batch.tokens[row, batch.positions[role][row]]) for row in range(2)]
            assert read == word
        assert tokenizer.convert_ids_to_tokens(batch.answers.tolist()) == ["key", "book"]


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(UserError, match="prompt 0: the tokenizer does not know 'key'"):
        encode([parse_sentence(SENTENCE)], words("The the book is in Box Q X , . contains"))


@dataclass(frozen=True)
class Plain:
    """A prompt without roles."""

    text: str
    answer: str
    spans: Mapping[str, Span] = field(default_factory=dict)
    facets: Mapping[str, int] = field(default_factory=dict)
    cluster: int = 0


def test_an_unknown_answer_is_named() -> None:
    with pytest.raises(UserError, match="the answer 'key'"):
        encode([Plain("The book", "key")], words("The book"))


def test_an_answer_glued_to_the_prompt_is_refused() -> None:
    with pytest.raises(UserError, match="glues"):
        encode([Plain("a,b", "c")], words("a b , c", glue=True))
