"""Arithmetic with variables to look up: `B = 7, K = 4. K + B = 11`, or `7 = B, 4 = K. K + B = 11`."""

import random
from dataclasses import dataclass

from entitrack.tasks.boxes.vocabulary import LABELS
from zoo_training.batches import Example

LARGEST_VALUE = 9


@dataclass(frozen=True)
class Arithmetic:
    """What all prompts of one batch have in common.

    Attributes:
        variables: number of variables that are given a value.
        value_first: `7 = B` rather than `B = 7`.
        questions: number of questions.
        terms: letters in each question; 1 is a plain look-up, 2 a sum or a difference.
    """

    variables: int
    value_first: bool = False
    questions: int = 1
    terms: int = 1


def draw_arithmetic(generator: random.Random, count: int, shape: Arithmetic) -> list[Example]:
    """Draw prompts of one shape.

    Roles (the `=` before the answer, each letter asked for and the same letter in the context) are set for
    one question about value-first variables: there the letter comes after its value, as in boxes prompts.
    """
    return [_draw_one(generator, shape) for _ in range(count)]


def _draw_one(generator: random.Random, shape: Arithmetic) -> Example:
    letters = generator.sample(LABELS, shape.variables)
    values = {letter: generator.randint(0, LARGEST_VALUE) for letter in letters}
    words: list[str] = []
    for letter in letters:
        pair = [letter, "=", str(values[letter])]
        words += [*(reversed(pair) if shape.value_first else pair), ","]
    words[-1] = "."
    places = {letter: words.index(letter) for letter in letters}
    answers: list[int] = []
    roles: tuple[int, ...] = ()
    for _ in range(shape.questions):
        asked = generator.sample(letters, shape.terms)
        start = len(words)
        words += _question(generator, asked, values)
        answers.append(len(words) - 1)
        if shape.questions == 1 and shape.value_first:
            in_question = [start + 2 * term for term in range(shape.terms)]
            roles = (answers[0] - 1, *in_question, *(places[words[index]] for index in in_question))
        words.append(".")
    return Example(tuple(words[:-1]), tuple(answers), roles)


def _question(generator: random.Random, asked: list[str], values: dict[str, int]) -> list[str]:
    """Return `K = 4`, `K + B = 11` or `B - K = 3`; a difference is never negative."""
    if len(asked) == 1:
        return [asked[0], "=", str(values[asked[0]])]
    if generator.random() < 0.5:
        return [asked[0], "+", asked[1], "=", str(values[asked[0]] + values[asked[1]])]
    larger, smaller = sorted(asked, key=lambda letter: values[letter], reverse=True)
    return [larger, "-", smaller, "=", str(values[larger] - values[smaller])]
