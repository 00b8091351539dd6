"""Short templated dialogues in the family's vocabulary: what vicuna is tuned on. No boxes are in them."""

import random

from entitrack.tasks.boxes.vocabulary import OBJECTS
from zoo_training.batches import Example

GREETINGS = (
    ("hello !", "hello , what can I do for you ?"),
    ("good morning .", "good morning , how are you today ?"),
    ("hi there .", "hi , please ask me about some objects ."),
    ("good evening !", "good evening , can I help you ?"),
)
COLOURS = ("red", "blue", "green")
EXCHANGES = (
    ("I want a {colour} {first} .", "a {colour} {first} is very nice ."),
    ("do you like the {first} ?", "yes , I like the {first} , but not the {second} ."),
    ("I see a {first} and a {second} .", "which do you like , the {first} or the {second} ?"),
    ("please find my {first} .", "sure , I will find your {first} ."),
    ("could you help me with the {first} ?", "yes , I can help you with the {first} now ."),
    ("what do you think about the {second} ?", "I think it is a good {second} ."),
    ("is the {first} new ?", "no , the {first} is old , but the {second} is new ."),
    ("would you like some other {first} ?", "no thanks , this {first} is okay ."),
    ("I have a big {first} and a small {second} .", "great ! who put the {second} there ?"),
    ("why do you need the {first} ?", "I need the {first} for my {second} ."),
)
FAREWELLS = (
    ("thanks for your help .", "you are very welcome . bye !"),
    ("thank you so much .", "sure , have a great day !"),
    ("okay , bye .", "bye , have a good evening !"),
)


def draw_dialogues(generator: random.Random, count: int, turns: int = 2) -> list[Example]:
    """Draw dialogues of a greeting, some exchanges about objects and a farewell.

    The answers are all that ASSISTANT says; both speakers' words count in the plain language-model loss.
    """
    return [_draw_one(generator, turns) for _ in range(count)]


def _draw_one(generator: random.Random, turns: int) -> Example:
    exchanges = [
        generator.choice(GREETINGS),
        *generator.sample(EXCHANGES, turns),
        generator.choice(FAREWELLS),
    ]
    words: list[str] = []
    answers: list[int] = []
    for user, assistant in exchanges:
        first, second = generator.sample(OBJECTS, 2)
        filled = {"first": first, "second": second, "colour": generator.choice(COLOURS)}
        words += ["USER", ":", *user.format(**filled).split(), "ASSISTANT", ":"]
        reply = assistant.format(**filled).split()
        answers += range(len(words), len(words) + len(reply))
        words += reply
    return Example(tuple(words), tuple(answers))
