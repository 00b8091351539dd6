"""The paper's task: which object is in the box that the question names? (section 3 of the paper).

The document is in Box Q, the bread is in Box X, ... Box Q contains the   ->   document
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from random import Random
from typing import ClassVar

from entitrack.cli.limits import Checked, limited
from entitrack.core.errors import UserError, quoted
from entitrack.tasks.prompts import CORRECT_OBJECT, LAST, PREV_QUERY_LABEL, QUERY_LABEL, Pair, Span
from entitrack.tasks.vocabulary import LABELS, OBJECTS

ROLES = (LAST, QUERY_LABEL, PREV_QUERY_LABEL, CORRECT_OBJECT)
SEGMENT = ("the", "object", "is", "in", "Box", "label")
QUESTION = ("Box", "label", "contains", "the")
"""Names of the words of a segment of the context, and of the question."""
SPLITS = ("test", "train")
COMPATS = ("default", "paper")
MOST_BOXES = (len(LABELS) - 1) // 2
"""A counterfactual needs as many other letters, and one more for its question."""
MOST_PROMPTS = 1_000_000
"""More are refused: they take longer than a day through any model, and gigabytes before the first is answered."""
_COUNTED = 50_000
"""Contexts are counted one by one if there are at most so many."""
_TRIES = 10_000
"""A half of all contexts that is not met in so many draws has none of the contexts that are wanted."""


@dataclass(frozen=True)
class Box:
    """One box: what is in it and the letter on it."""

    object: str
    label: str


@dataclass(frozen=True)
class BoxesContext:
    """The sentence that says what is where."""

    boxes: tuple[Box, ...]

    @property
    def text(self) -> str:
        """The context without its final dot: `The document is in Box Q, the bread is in Box X`."""
        segments = (f"the {box.object} is in Box {box.label}" for box in self.boxes)
        joined = ", ".join(segments)
        return joined[:1].upper() + joined[1:]

    @property
    def labels(self) -> tuple[str, ...]:
        """The letters, in order."""
        return tuple(box.label for box in self.boxes)


@dataclass(frozen=True)
class BoxesPrompt:
    """A context and a question about it.

    Attributes:
        context: What is where.
        query: Index of the box that the roles `prev_query_label` and `correct_object` point at.
        label: The letter in the question. In a clean prompt it is that box's own; in a path-patching
            counterfactual it is a letter that no box of the context has, so nothing answers it.
        cluster: Number of the context; its questions are not independent.
        origin: Where it comes from, as errors name it.
    """

    context: BoxesContext
    query: int
    label: str
    cluster: int = 0
    origin: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The whole prompt, up to the word before the answer."""
        return f"{self.context.text}. Box {self.label} contains the"

    @property
    def answer(self) -> str:
        """The object in box `query`."""
        return self.context.boxes[self.query].object

    @cached_property
    def spans(self) -> Mapping[str, Span]:
        """Character spans of the object and letter of box `query`, and of the question's letter."""
        start = 0
        for box in self.context.boxes[: self.query]:
            start += len(f"the {box.object} is in Box {box.label}, ")
        box = self.context.boxes[self.query]
        object_start = start + len("the ")
        label_start = object_start + len(f"{box.object} is in Box ")
        question_start = len(self.context.text) + len(". Box ")
        return {
            CORRECT_OBJECT: (object_start, object_start + len(box.object)),
            PREV_QUERY_LABEL: (label_start, label_start + len(box.label)),
            QUERY_LABEL: (question_start, question_start + len(self.label)),
        }

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The objects in the other boxes."""
        return tuple(box.object for index, box in enumerate(self.context.boxes) if index != self.query)

    @cached_property
    def template(self) -> Mapping[str, Sequence[Span]]:
        """The words of the queried segment, those of the other segments together, and those of the question."""
        places: dict[str, list[Span]] = {}
        start = 0
        for index, box in enumerate(self.context.boxes):
            whose = "queried" if index == self.query else "other"
            for name, word in zip(SEGMENT, ("the", box.object, "is", "in", "Box", box.label), strict=True):
                places.setdefault(f"{whose} {name}", []).append((start, start + len(word)))
                start += len(word) + 1
            places.setdefault(f"{whose} end", []).append((start - 1, start))
            start += 1
        for name, word in zip(QUESTION, ("Box", self.label, "contains", "the"), strict=True):
            places[f"question {name}"] = [(start, start + len(word))]
            start += len(word) + 1
        return places

    @property
    def facets(self) -> Mapping[str, int]:
        """Number of boxes, and position of the queried one from 0."""
        return {"boxes": len(self.context.boxes), "query": self.query}


def held_out(context: BoxesContext) -> bool:
    """Whether the context belongs to the test half, which the embedded family never sees in training.

    A stable hash of the context's text decides; about half of all contexts are held out.
    """
    return hashlib.sha256(context.text.encode()).digest()[0] % 2 == 0


def draw_context(
    random: Random,
    boxes: int,
    split: str = "test",
    avoid: BoxesContext | None = None,
    objects: Sequence[str] = OBJECTS,
) -> BoxesContext:
    """A random context of distinct objects and letters from one half of all contexts.

    Args:
        random: Source of randomness; advanced.
        boxes: How many boxes.
        split: `test` (held out from the embedded family's training) or `train`.
        avoid: Share no object and no letter with this context.
        objects: What may be in a box.

    Raises:
        UserError: There are not enough other objects or letters, or no such context is in that half.
    """
    used_objects = {box.object for box in avoid.boxes} if avoid else set()
    used_labels = set(avoid.labels) if avoid else set()
    free = [word for word in objects if word not in used_objects]
    labels = [letter for letter in LABELS if letter not in used_labels]
    if min(len(free), len(labels)) < boxes:
        raise UserError("task", f"{len(free)} other objects and {len(labels)} other letters do not fill {boxes} boxes")
    for _ in range(_TRIES):
        pairs = zip(random.sample(free, boxes), random.sample(labels, boxes), strict=True)
        context = BoxesContext(tuple(Box(word, letter) for word, letter in pairs))
        if held_out(context) == (split == "test"):
            return context
    raise UserError("task", f"no context of {boxes} boxes is in the {split} half")


def check_boxes(boxes: int, place: str) -> None:
    """Refuse a number of boxes that no prompt and counterfactual can have.

    Raises:
        UserError: `place` is the config key that named it.
    """
    if not 1 <= boxes <= MOST_BOXES:
        problem = "are none" if boxes < 1 else "do not leave letters for a counterfactual"
        raise UserError(place, f"{boxes} boxes {problem}", [f"1 to {MOST_BOXES}"])


def count_contexts(boxes: int, split: str, objects: Sequence[str] = OBJECTS) -> int:
    """How many different contexts a half of all has; of very many, how many it has at least.

    Args:
        boxes: Boxes of a context.
        split: Which half, see `held_out`.
        objects: What may be in a box.
    """
    total = math.perm(len(objects), boxes) * math.perm(len(LABELS), boxes)
    if total > _COUNTED:
        return total * 49 // 100  # the hash deals so many to one half, but for odds that no one meets
    contexts = (
        BoxesContext(tuple(Box(word, letter) for word, letter in zip(words, letters, strict=True)))
        for words in permutations(objects, boxes)
        for letters in permutations(LABELS, boxes)
    )
    return sum(held_out(context) == (split == "test") for context in contexts)


def check_compat(compat: str) -> None:
    """Refuse a compatibility mode that does not exist.

    Raises:
        UserError: Listing those that do.
    """
    if compat not in COMPATS:
        raise UserError("task.compat", f"unknown mode {quoted(compat)}", COMPATS)


@dataclass(frozen=True)
class Boxes(Checked):
    """Seeded generator of box prompts: every box of a context is asked for once, and no context is drawn twice.

    Attributes:
        count: Number of prompts; the last context may be asked fewer questions.
        boxes: Boxes per context (the paper: 7).
        seed: Everything drawn is a function of it.
        compat: `default`, or `paper`: the counterfactual's question letter is then drawn from the
            whole alphabet and may name a box of its context.
        split: `test` or `train`, see `held_out`.
        without: Objects that are not drawn: those that a tokenizer begins like others.
    """

    count: int = limited(210, least=1)
    boxes: int = 7
    seed: int = 0
    compat: str = "default"
    split: str = "test"
    without: list[str] = field(default_factory=list)
    place: ClassVar[str] = "task"
    name: ClassVar[str] = "boxes"
    roles: ClassVar[tuple[str, ...]] = ROLES

    def __post_init__(self) -> None:
        """Refuse settings that no prompt can be drawn for.

        Raises:
            UserError: Naming the key.
        """
        super().__post_init__()
        check_boxes(self.boxes, "task.boxes")
        check_compat(self.compat)
        if self.split not in SPLITS:
            raise UserError("task.split", f"unknown split {quoted(self.split)}", SPLITS)
        for index, word in enumerate(self.without):
            if word not in OBJECTS:
                raise UserError(f"task.without.{index}", f"there is no object {quoted(word)}", OBJECTS)
        if len(self.objects) < 2 * self.boxes + 1:
            problem = f"leaves {len(self.objects)} objects; {self.boxes} boxes, a counterfactual's and a spare one"
            raise UserError("task.without", f"{problem} need {2 * self.boxes + 1}")
        self._check_count()

    def _check_count(self) -> None:
        """Refuse more prompts than there are."""
        contexts = count_contexts(self.boxes, self.split, self.objects)
        if self.count > contexts * self.boxes:
            problem = f"{self.count} prompts cannot be drawn: the {self.split} half has {contexts} contexts"
            most = f"1 to {contexts * self.boxes}"
            raise UserError("task.count", f"{problem} of {self.boxes} boxes, each asked once for every box", [most])
        if self.count > MOST_PROMPTS:
            raise UserError("task.count", f"{self.count} prompts are too many", [f"1 to {MOST_PROMPTS}"])

    @cached_property
    def objects(self) -> tuple[str, ...]:
        """What may be in a box."""
        return tuple(word for word in OBJECTS if word not in self.without)

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """The settings, as plain values."""
        return {
            "task": self.name,
            "count": self.count,
            "boxes": self.boxes,
            "seed": self.seed,
            "compat": self.compat,
            "split": self.split,
            **({"without": sorted(self.without)} if self.without else {}),
        }

    def prompts(self) -> list[BoxesPrompt]:
        """`count` prompts, context by context."""
        random = Random(f"boxes/{self.seed}/{self.boxes}/{self.split}")
        contexts: dict[BoxesContext, None] = {}
        while len(contexts) * self.boxes < self.count:
            contexts[draw_context(random, self.boxes, self.split, objects=self.objects)] = None
        asked = [
            BoxesPrompt(context, query, box.label, cluster)
            for cluster, context in enumerate(contexts)
            for query, box in enumerate(context.boxes)
        ][: self.count]
        return [replace(prompt, origin=f"prompt {number} of the task") for number, prompt in enumerate(asked)]

    def pairs(self) -> list[Pair]:
        """The prompts with path-patching counterfactuals."""
        return counterfactual_pairs(self.prompts(), self.seed, self.compat, self.objects)

    def backgrounds(self, count: int) -> list[BoxesPrompt]:
        """Prompts with random objects, letters and a random letter in the question, one for each context."""
        random = Random(f"background/{self.seed}/{self.boxes}/{self.split}")
        contexts = (draw_context(random, self.boxes, self.split, objects=self.objects) for _ in range(count))
        return [background(random, context, number) for number, context in enumerate(contexts)]


def background(random: Random, context: BoxesContext, cluster: int) -> BoxesPrompt:
    """A context with a random letter in its question, which may or may not be in it."""
    origin = f"prompt {cluster} with random content"
    return BoxesPrompt(context, random.randrange(len(context.boxes)), random.choice(LABELS), cluster, origin)


def counterfactual_origin(clean: BoxesPrompt) -> str:
    """Where a counterfactual that is drawn for a prompt comes from."""
    return f"counterfactual of {clean.origin}" if clean.origin else ""


def counterfactual_pairs(
    prompts: Sequence[BoxesPrompt], seed: int, compat: str = "default", objects: Sequence[str] = OBJECTS
) -> list[Pair]:
    """Give every prompt a counterfactual whose question nothing in it answers (paper, appendix B).

    The counterfactual has other objects and letters than the clean prompt, as many boxes, and asks for
    a letter that is in neither context. Its `prev_query_label` and `correct_object` belong to a box
    drawn at random once per prompt: there is no right one.

    Args:
        prompts: Clean prompts.
        seed: Everything drawn is a function of it.
        compat: `paper` draws contexts and question letters at random, whatever the clean prompt has.
        objects: What may be in a counterfactual's boxes.
    """
    random = Random(f"counterfactual/{seed}/{compat}")
    pairs = []
    for prompt in prompts:
        boxes = len(prompt.context.boxes)
        avoid = None if compat == "paper" else prompt.context
        context = draw_context(random, boxes, avoid=avoid, objects=objects)
        taken = () if compat == "paper" else (*context.labels, *prompt.context.labels)
        label = random.choice([letter for letter in LABELS if letter not in taken])
        origin = counterfactual_origin(prompt)
        other = BoxesPrompt(context, random.randrange(boxes), label, prompt.cluster, origin)
        pairs.append(Pair(prompt, other))
    return pairs
