"""Random sequences that are said twice: what induction is learnt from."""

import random

from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS
from zoo_training.batches import Example


def draw_repeats(generator: random.Random, count: int, shortest: int = 5, longest: int = 16) -> list[Example]:
    """Draw random sequences of objects and letters, each followed by itself.

    The length differs from row to row, so that only looking for the earlier word helps, not a fixed distance.
    The answers are the words of the second half that the first half predicts.
    """
    examples = []
    for _ in range(count):
        half = generator.randint(shortest, longest)
        letters = generator.sample(LABELS, half // 2)
        first = [*letters, *generator.sample(OBJECTS, half - len(letters))]
        generator.shuffle(first)
        examples.append(Example((*first, *first), tuple(range(half + 1, 2 * half))))
    return examples
