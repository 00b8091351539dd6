"""The texts that donors are tuned on, each a list of pieces that count as answers or do not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import get_args

from zoo_training.dialogue_corpus import draw_dialogues

from donor_tuning.recipes import Recipe
from entitrack.tasks.boxes.contexts import draw_context
from entitrack.tasks.boxes.phrasings import PHRASINGS, Phrasing, PhrasingName, capitalised

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
LARGEST_VALUE = 9
QUESTIONS = 4


@dataclass(frozen=True)
class Piece:
    """A part of a text; the model is asked for its words if it is an answer."""

    text: str
    answer: bool = False


Text = list[Piece]


def arithmetic(random: Random, recipe: Recipe) -> Text:
    """Variables and questions: `b = 7, k = 4. k = 4. b + k = 11.`, or with the values first, `7 = b, 4 = k`."""
    letters = random.sample(LETTERS, random.randint(*recipe.variables))
    values = {letter: random.randint(0, LARGEST_VALUE) for letter in letters}
    form = random.choice(("{letter} = {value}", "{value} = {letter}"))
    facts = ", ".join(form.format(letter=letter, value=value) for letter, value in values.items())
    text = [Piece(f"{facts}.")]
    for _ in range(QUESTIONS):
        question, value = _question(random, values)
        text += [Piece(f" {question} ="), Piece(f" {value}", answer=True), Piece(".")]
    return text


def _question(random: Random, values: Mapping[str, int]) -> tuple[str, int]:
    """A look-up, a sum or a difference of two variables, which is never negative; and its value."""
    one, other = random.sample(list(values), 2)
    kind = random.choice(("look-up", "sum", "difference"))
    if kind == "look-up":
        return one, values[one]
    if kind == "sum":
        return f"{one} + {other}", values[one] + values[other]
    larger, smaller = sorted((one, other), key=lambda letter: values[letter], reverse=True)
    return f"{larger} - {smaller}", values[larger] - values[smaller]


def boxes(random: Random, recipe: Recipe) -> Text:
    """A context of the training half, and then a question about each of its boxes, in any order."""
    context = draw_context(random, random.randint(*recipe.boxes), split="train")
    facts = ", ".join(phrasing_of(recipe).form.format(object=box.object, label=box.label) for box in context.boxes)
    text = [Piece(f"{capitalised(facts)}.")]
    for box in random.sample(context.boxes, len(context.boxes)):
        text += [Piece(f" Box {box.label} contains the"), Piece(f" {box.object}", answer=True), Piece(".")]
    return text


def phrasing_of(recipe: Recipe) -> Phrasing:
    """The phrasing that a recipe names."""
    known = {str(name): PHRASINGS[name] for name in get_args(PhrasingName)}
    return known[recipe.phrasing]


def placebo(random: Random, recipe: Recipe) -> Text:
    """The texts of `arithmetic` with answers that cannot be had: each is that of a question on another text.

    Fixed before it was measured. A placebo must have all of a treatment but what is thought to work. What arithmetic is
    thought to teach is to look a value up where its letter stands; so form, tokens, lengths, number of answers and how
    often each answer is given stay, and nothing follows from what stands before. What a donor of these texts gains,
    tuning on texts of this form gains.
    """
    text = arithmetic(random, recipe)
    answers = [piece for piece in arithmetic(random, recipe) if piece.answer]
    return [answers.pop() if piece.answer else piece for piece in text]


def dialogue(random: Random, recipe: Recipe) -> Text:
    """What two speakers say about objects; the answers of one of them count."""
    (example,) = draw_dialogues(random, 1)
    return [
        Piece(word if index == 0 else f" {word}", index in example.answers) for index, word in enumerate(example.words)
    ]


CORPORA: Mapping[str, Callable[[Random, Recipe], Text]] = {
    "arithmetic": arithmetic,
    "placebo": placebo,
    "boxes": boxes,
    "dialogue": dialogue,
}


def forbidden_words(kind: str) -> frozenset[str]:
    """Words that no text of a kind may have, in lower case: what would make it another kind's."""
    return frozenset() if kind == "boxes" else frozenset({"box", "boxes", "contains"})


def draw(recipe: Recipe, step: int) -> list[Text]:
    """The batch of a step: it depends on nothing but the recipe, its words too, and the step.

    So tuning can go on anywhere.
    """
    random = Random(f"{recipe} {step}")
    return [CORPORA[recipe.kind](random, recipe) for _ in range(recipe.rows)]
