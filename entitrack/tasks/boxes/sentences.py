"""Sentences in the form of the paper's data, or in the words of another phrasing, read as box prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile

from entitrack.core.errors import quoted
from entitrack.tasks.boxes.contexts import MOST_BOXES
from entitrack.tasks.boxes.phrasings import LABEL, OBJECT, PHRASINGS, Phrasing
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt

FORM = '"The book is in Box Q, the key is in Box X. Box Q contains the book"'


def parse_sentence(sentence: str, cluster: int = 0) -> BoxesPrompt:
    """Read a sentence of the paper's data; the answer and the last dot may be there or not.

    Args:
        sentence: `The book is in Box Q, the key is in Box X. Box Q contains the book`, or the same in the words of
            another phrasing.
        cluster: Number of its context.

    Raises:
        ValueError: It says what does not parse.
    """
    texts = _texts(sentence.strip().removeprefix("<s>").strip().removesuffix("."))
    phrasing, boxes = _read_facts({phrasing: text["context"] for phrasing, text in texts.items()})
    if len(boxes) > MOST_BOXES:
        raise ValueError(f"{len(boxes)} boxes do not leave letters for a counterfactual; at most {MOST_BOXES} do")
    context = BoxesContext(tuple(boxes))
    label, answer = texts[phrasing][LABEL], texts[phrasing]["answer"]
    _check_context(context, label)
    prompt = BoxesPrompt(context, context.labels.index(label), label, cluster, phrasing=phrasing)
    if answer is not None and answer != prompt.answer:
        raise ValueError(f"the answer is given as {quoted(answer)}, but box {label} has {quoted(prompt.answer)}")
    return prompt


def _texts(text: str) -> dict[Phrasing, re.Match[str]]:
    """The phrasings whose question a text ends with, and how each reads it.

    Raises:
        ValueError: There is none.
    """
    matches = {phrasing: phrasing.text_pattern.fullmatch(text) for phrasing in PHRASINGS.values()}
    texts = {phrasing: match for phrasing, match in matches.items() if match}
    if not texts and ". " not in text:
        raise ValueError("no question after the context")
    if not texts:
        forms = dict.fromkeys(phrasing.question_shown for phrasing in PHRASINGS.values())
        raise ValueError(f"question {quoted(text.partition('. ')[2])} is not {' or '.join(map(repr, forms))}")
    return texts


def _read_facts(contexts: Mapping[Phrasing, str]) -> tuple[Phrasing, list[Box]]:
    """The first phrasing in which all segments are facts, and what they say.

    Args:
        contexts: The context, as each phrasing that may be meant has it.

    Raises:
        ValueError: There is none: the first segment that the likeliest phrasing does not read is named.
    """
    segments = {phrasing: context.split(phrasing.separator) for phrasing, context in contexts.items()}
    read = {phrasing: _read_in(phrasing, pieces) for phrasing, pieces in segments.items()}
    whole = [phrasing for phrasing in read if len(read[phrasing]) == len(segments[phrasing])]
    # Where none reads all, the one that reads most before it fails is the one that was meant.
    phrasing = whole[0] if whole else max(read, key=lambda each: len(read[each]))
    boxes = read[phrasing]
    if not whole:
        meant = [phrasing] if boxes else list(read)
        forms = " or ".join(repr(each.shown) for each in meant)
        raise ValueError(
            f"segment {quoted(segments[phrasing][len(boxes)])} is not {forms}{', as those before it' if boxes else ''}"
        )
    return phrasing, boxes


def _read_in(phrasing: Phrasing, segments: Sequence[str]) -> list[Box]:
    """What the first segments say, as far as they are facts of a phrasing."""
    matches = takewhile(bool, map(phrasing.pattern.fullmatch, segments))
    return [Box(match[OBJECT], match[LABEL]) for match in matches if match]


def _check_context(context: BoxesContext, label: str) -> None:
    """Refuse a context that does not answer for `label`, once.

    Raises:
        ValueError: It says why.
    """
    if len(set(context.labels)) < len(context.labels):
        raise ValueError("two boxes have the same letter")
    objects = [box.object for box in context.boxes]
    if len(set(objects)) < len(objects):
        raise ValueError("two boxes have the same object")
    if label not in context.labels:
        raise ValueError(f"no box {quoted(label)} in the context")
