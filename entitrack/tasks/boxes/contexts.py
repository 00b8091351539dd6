"""Which contexts there are: drawn from two halves, of which the embedded family sees one in training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import permutations
from random import Random

from entitrack.core.errors import UserError
from entitrack.core.parts import WHOLE, part_of
from entitrack.tasks.boxes.prompts import Box, BoxesContext
from entitrack.tasks.boxes.vocabulary import LABELS, OBJECTS

MOST_BOXES = (len(LABELS) - 1) // 2
"""A counterfactual needs as many other letters, and one more for its question."""
_COUNTED = 50_000
"""Contexts are counted one by one if there are at most so many."""
_TRIES = 10_000
"""A half of all contexts that is not met in so many draws has none of the contexts that are wanted."""


def held_out(context: BoxesContext) -> bool:
    """Whether the context belongs to the test half, which the embedded family never sees in training.

    A stable hash of the context's text decides, as the paper words it, so that a context is in one half in every
    phrasing; about half of all contexts are held out.
    """
    return hashlib.sha256(context.text.encode()).digest()[0] % 2 == 0


def draw_context(
    random: Random,
    boxes: int,
    split: str = "test",
    avoid: BoxesContext | None = None,
    objects: Sequence[str] = OBJECTS,
    part: str = WHOLE,
    labels: Sequence[str] = LABELS,
) -> BoxesContext:
    """A random context of distinct objects and letters from one half of all contexts.

    Args:
        random: Source of randomness; advanced.
        boxes: How many boxes.
        split: `test` (held out from the embedded family's training) or `train`.
        avoid: Share no object and no letter with this context.
        objects: What may be in a box.
        part: `search`, `judge` or `all`; see `entitrack.core.parts`.
        labels: What may be on a box.

    Raises:
        UserError: There are not enough other objects or letters, or no such context is in that half.
    """
    used_objects = {box.object for box in avoid.boxes} if avoid else set()
    used_labels = set(avoid.labels) if avoid else set()
    free = [word for word in objects if word not in used_objects]
    free_labels = [letter for letter in labels if letter not in used_labels]
    if min(len(free), len(free_labels)) < boxes:
        raise UserError(
            "task", f"{len(free)} other objects and {len(free_labels)} other letters do not fill {boxes} boxes"
        )
    for _ in range(_TRIES):
        pairs = zip(random.sample(free, boxes), random.sample(free_labels, boxes), strict=True)
        context = BoxesContext(tuple(Box(word, letter) for word, letter in pairs))
        if _belongs(context, split, part):
            return context
    raise UserError("task", f"no context of {boxes} boxes is in the {half_named(split, part)}")


def check_boxes(boxes: int, place: str) -> None:
    """Refuse a number of boxes that no prompt and counterfactual can have.

    Raises:
        UserError: `place` is the config key that named it.
    """
    if not 1 <= boxes <= MOST_BOXES:
        problem = "are none" if boxes < 1 else "do not leave letters for a counterfactual"
        raise UserError(place, f"{boxes} boxes {problem}", [f"1 to {MOST_BOXES}"])


def count_contexts(boxes: int, split: str, objects: Sequence[str] = OBJECTS, part: str = WHOLE) -> int:
    """How many different contexts a half of all has; of very many, how many it has at least.

    Args:
        boxes: Boxes of a context.
        split: Which half, see `held_out`.
        objects: What may be in a box.
        part: `search`, `judge` or `all`.
    """
    total = math.perm(len(objects), boxes) * math.perm(len(LABELS), boxes)
    if total > _COUNTED:
        # the hash deals so many to one half, or to a part of it, but for odds that no one meets
        return total * 49 // (100 if part == WHOLE else 200)
    contexts = (
        BoxesContext(tuple(Box(word, letter) for word, letter in zip(words, letters, strict=True)))
        for words in permutations(objects, boxes)
        for letters in permutations(LABELS, boxes)
    )
    return sum(_belongs(context, split, part) for context in contexts)


def _belongs(context: BoxesContext, split: str, part: str) -> bool:
    return held_out(context) == (split == "test") and part in (WHOLE, part_of(context.text))


def half_named(split: str, part: str) -> str:
    """What a half, or a part of it, is called."""
    return f"{split} half" if part == WHOLE else f"{part} part of the {split} half"
