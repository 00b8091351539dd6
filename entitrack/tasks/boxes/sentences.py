"""Sentences in the form of the paper's data, read as box prompts."""

from __future__ import annotations

import re

from entitrack.core.errors import quoted
from entitrack.tasks.boxes.contexts import MOST_BOXES
from entitrack.tasks.boxes.prompts import Box, BoxesContext, BoxesPrompt

_SEGMENT = re.compile(r"[Tt]he (?P<object>[\w-]+) is in Box (?P<label>[A-Za-z]+)")
_QUESTION = re.compile(r"Box (?P<label>[A-Za-z]+) contains the(?: (?P<answer>[\w-]+))?")
FORM = '"The book is in Box Q, the key is in Box X. Box Q contains the book"'


def parse_sentence(sentence: str, cluster: int = 0) -> BoxesPrompt:
    """Read a sentence of the paper's data; the answer and the last dot may be there or not.

    Args:
        sentence: `The book is in Box Q, the key is in Box X. Box Q contains the book`.
        cluster: Number of its context.

    Raises:
        ValueError: It says what does not parse.
    """
    text = sentence.strip().removeprefix("<s>").strip().removesuffix(".")
    context_text, dot, question_text = text.partition(". ")
    if not dot:
        raise ValueError("no question after the context")
    boxes = []
    for segment in context_text.split(", "):
        match = _SEGMENT.fullmatch(segment)
        if not match:
            raise ValueError(f"segment {quoted(segment)} is not 'the OBJECT is in Box LABEL'")
        boxes.append(Box(match["object"], match["label"]))
    if len(boxes) > MOST_BOXES:
        raise ValueError(f"{len(boxes)} boxes do not leave letters for a counterfactual; at most {MOST_BOXES} do")
    question = _QUESTION.fullmatch(question_text)
    if not question:
        raise ValueError(f"question {quoted(question_text)} is not 'Box LABEL contains the'")
    context = BoxesContext(tuple(boxes))
    return _resolve(context, question["label"], question["answer"], cluster)


def _resolve(context: BoxesContext, label: str, answer: str | None, cluster: int) -> BoxesPrompt:
    """The prompt that asks for `label`, if the context answers it, once, and with `answer`."""
    if len(set(context.labels)) < len(context.labels):
        raise ValueError("two boxes have the same letter")
    objects = [box.object for box in context.boxes]
    if len(set(objects)) < len(objects):
        raise ValueError("two boxes have the same object")
    if label not in context.labels:
        raise ValueError(f"no box {quoted(label)} in the context")
    prompt = BoxesPrompt(context, context.labels.index(label), label, cluster)
    if answer is not None and answer != prompt.answer:
        raise ValueError(f"the answer is given as {quoted(answer)}, but box {label} has {quoted(prompt.answer)}")
    return prompt
