"""Roles come from the tokenizer's offsets, whatever it does to words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from entitrack.core.errors import UserError
from entitrack.tasks.boxes import Boxes, BoxesFile, parse_sentence
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from entitrack.tasks.encoding import alternative_tokens, check_first_tokens, encode, template_positions
from entitrack.tasks.protocol import Span


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


def initials(known: str) -> PreTrainedTokenizerFast:
    """A tokenizer that splits every word after its first letter, so that `book` and `bread` begin alike."""
    pieces = {piece for word in known.split() for piece in (word[0], word[1:]) if piece}
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", *sorted(pieces)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex(r"^\w"), "isolated")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")


ALIKE = "The book is in Box Q, the key is in Box X, the bread is in Box Y. Box X contains the key"
WORDS = "The the book key bread is in Box Q X Y , . contains"


def test_answers_that_begin_with_one_token_are_refused_and_all_of_them_named() -> None:
    prompts = [parse_sentence(SENTENCE), parse_sentence(ALIKE)]
    message = r"^prompt 1: 'book' and 'bread' begin with one token.*task\.without=\[bread\]"
    with pytest.raises(UserError, match=message):
        check_first_tokens(prompts, initials(WORDS))
    check_first_tokens(prompts, words(WORDS))
    check_first_tokens(prompts[:1], initials(WORDS))


@pytest.mark.parametrize("seed", range(3))
def test_prompts_without_the_words_that_are_named_pass(seed: int) -> None:
    """What the message says mends it, for the prompts that it was said of."""
    vocabulary = " ".join([*OBJECTS, "The the is in Box , . contains", *LABELS])
    tokenizer = initials(vocabulary)
    prompts = Boxes(count=8, boxes=2, seed=seed).prompts()
    clashing = [p for p in prompts if len({box.object[0] for box in p.context.boxes}) < 2]
    fine = [p for p in prompts if p not in clashing]
    check_first_tokens(fine, tokenizer)
    for prompt in clashing:
        with pytest.raises(UserError, match=rf"^{prompt.origin}: .* begin with one token"):
            check_first_tokens([*fine, prompt], tokenizer)


def test_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    sentences = [SENTENCE, "The book is in Box Q. Box Q contains the", SENTENCE.replace("key", "zyxw")]
    path = tmp_path / "p.jsonl"
    path.write_text("\n\n".join(json.dumps({"sentence": text}) for text in sentences))
    first, alone, strange = BoxesFile(path=str(path)).prompts()
    tokenizer = words("The the book key is in Box Q X , . contains")
    for prompts, line, reason in (
        ([strange], 5, "does not know"),
        ([strange, first], 5, "does not know"),
    ):
        with pytest.raises(UserError, match=rf"p\.jsonl, line {line}: .*{reason}"):
            encode(prompts, tokenizer)
    with pytest.raises(UserError, match=r"p\.jsonl, line 3: its context offers no other answer"):
        alternative_tokens([first, alone], tokenizer)
    with pytest.raises(UserError, match=r"p\.jsonl, line 3: does not have the places that .*p\.jsonl, line 1 has"):
        template_positions([first, alone], tokenizer)
    three = parse_sentence(ALIKE)
    with pytest.raises(UserError, match=r"^prompt 1: 'other the' has 2 tokens, and 1 in .*p\.jsonl, line 1"):
        template_positions([first, three], words(WORDS))


def test_a_tokenizer_without_offsets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = words("The the book key is in Box Q X , . contains")
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False))
    for call in (encode, template_positions):
        with pytest.raises(UserError, match=r"^model: \w+ gives no offsets; use a fast tokenizer"):
            call([parse_sentence(SENTENCE)], tokenizer)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_tokenizer_without_padding_reads_the_same(side: str) -> None:
    prompts = [parse_sentence(SENTENCE), parse_sentence("The book is in Box Q. Box Q contains the")]
    tokenizer = words("The the book key is in Box Q X , . contains")
    padded = encode(prompts, tokenizer, side)
    tokenizer.pad_token = None
    bare = encode(prompts, tokenizer, side)
    assert torch.equal(bare.mask, padded.mask)
    assert torch.equal(bare.tokens * bare.mask, padded.tokens * padded.mask)
    assert all(torch.equal(bare.positions[role], padded.positions[role]) for role in padded.positions)
