"""Boxes prompts to train on: never a held-out context, two forms of context and of question, word dropout."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from entitrack.tasks.boxes import Box, BoxesContext, draw_context
from zoo_training.batches import Example

FILLERS = ("the", "is", "in", "Box", "contains")


class Form(Enum):
    """How one fact is put into words."""

    OBJECT_FIRST = "the book is in Box Q"
    """The form of the context of a test prompt."""
    LABEL_FIRST = "Box Q contains the book"
    """The form of the question of a test prompt."""


@dataclass(frozen=True)
class Shape:
    """What all prompts of one batch have in common, so that their positions line up.

    Attributes:
        boxes: number of boxes in the context.
        context: form of the context's facts.
        question: form of the questions; the last word of the fact is the answer.
        questions: how many different boxes are asked about, one after the other.
        kept: the filler words that are not dropped.
    """

    boxes: int
    context: Form = Form.OBJECT_FIRST
    question: Form = Form.LABEL_FIRST
    questions: int = 1
    kept: frozenset[str] = frozenset(FILLERS)


def draw_kept(generator: random.Random, probability: float) -> frozenset[str]:
    """Keep each filler word with a probability, for a whole batch."""
    return frozenset(word for word in FILLERS if generator.random() < probability)


def fact(box: Box, form: Form, kept: frozenset[str]) -> list[str]:
    """Return one fact as words, without the dropped fillers."""
    if form is Form.OBJECT_FIRST:
        sentence = ["the", box.object, "is", "in", "Box", box.label]
    else:
        sentence = ["Box", box.label, "contains", "the", box.object]
    return [word for word in sentence if word not in FILLERS or word in kept]


def sentence_start(words: list[str]) -> list[str]:
    """Return the words with a capital at the start of a sentence."""
    return ["The", *words[1:]] if words[0] == "the" else words


def render(context: BoxesContext, asked: list[int], shape: Shape) -> Example:
    """Put a context and questions about some of its boxes into words.

    Roles are set when there is one question, of the form of the test prompts.
    """
    words: list[str] = []
    label_positions: list[int] = []
    for index, box in enumerate(context.boxes):
        segment = fact(box, shape.context, shape.kept)
        words += sentence_start(segment) if index == 0 else segment
        label_positions.append(max(i for i, word in enumerate(words) if word == box.label))
        words.append("," if index + 1 < len(context.boxes) else ".")
    answers = []
    question_start = len(words)
    for index in asked:
        words += sentence_start(fact(context.boxes[index], shape.question, shape.kept))
        answers.append(len(words) - 1)
        words.append(".")
    roles: tuple[int, ...] = ()
    if shape == Shape(shape.boxes):
        roles = (answers[0] - 1, question_start + 1, label_positions[asked[0]])
    return Example(tuple(words[:-1]), tuple(answers), roles)


def boxes_examples(generator: random.Random, count: int, shape: Shape) -> Iterator[tuple[BoxesContext, Example]]:
    """Draw prompts of one shape, each with the context it was made from."""
    for _ in range(count):
        context = draw_context(generator, shape.boxes, split="train")
        asked = generator.sample(range(shape.boxes), min(shape.questions, shape.boxes))
        yield context, render(context, asked, shape)


def draw_boxes(generator: random.Random, count: int, shape: Shape) -> list[Example]:
    """Draw prompts of one shape."""
    return [example for _, example in boxes_examples(generator, count, shape)]
