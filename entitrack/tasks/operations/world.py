"""What is in which box, and what happens to it: an exact world, without a word of how it is told.

1. Boxes and objects are numbers; `words` and `labels` say what they are called. So a counterfactual with other words
   has the same operations on the same boxes, and as many words.
2. A box holds one object or none. Boxes that are never filled at first are the ones that are put or moved into.
3. Answers are read off the state after the last operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Literal, get_args

from entitrack.core.errors import UserError

Kind = Literal["put", "remove", "move", "swap"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TRIES = 1000
"""An order of operations that cannot be told after so many draws is none."""


@dataclass(frozen=True)
class Operation:
    """One thing that happens.

    Attributes:
        kind: What.
        box: The box that it happens to; of a move the one that is moved to, of a swap the first.
        object: What was in it, or comes into it.
        source: The other box of a move or swap.
        other: What was in the other box of a swap.
    """

    kind: Kind
    box: int
    object: int
    source: int | None = None
    other: int | None = None

    @property
    def boxes(self) -> tuple[int, ...]:
        """The boxes that it touches."""
        return (self.box,) if self.source is None else (self.box, self.source)

    def applied(self, state: Mapping[int, int]) -> dict[int, int]:
        """Box -> object after it.

        Args:
            state: Box -> object before.

        Raises:
            ValueError: It cannot happen in that state.
        """
        after = dict(state)
        if self.kind == "put":
            _need(self.box not in state)
            after[self.box] = self.object
        elif self.kind == "remove":
            _need(state.get(self.box) == self.object)
            del after[self.box]
        elif self.kind == "move":
            _need(self.source is not None and state.get(self.source) == self.object and self.box not in state)
            after[self.box] = after.pop(self.source or 0)
        else:
            _need(self.source is not None and self.other is not None)
            _need(state.get(self.box) == self.object and state.get(self.source or 0) == self.other)
            after |= {self.box: self.other or 0, self.source or 0: self.object}
        return after


@dataclass(frozen=True)
class OperationsContext:
    """What is where at first, and what happens then.

    Attributes:
        filled: Boxes 0, 1, ... that are full at first, box n with object n.
        operations: What happens, in order.
        words: What objects are called.
        labels: The letters of the boxes.
    """

    filled: int
    operations: tuple[Operation, ...]
    words: tuple[str, ...]
    labels: tuple[str, ...]

    @cached_property
    def state(self) -> Mapping[int, int]:
        """Box -> object in the end.

        Raises:
            ValueError: An operation cannot happen.
        """
        state = {box: box for box in range(self.filled)}
        for operation in self.operations:
            state = operation.applied(state)
        return dict(sorted(state.items()))

    def answer(self, box: int) -> str:
        """The object that is in a box in the end."""
        return self.words[self.state[box]]

    def touching(self, box: int) -> list[Operation]:
        """The operations that touch a box."""
        return [operation for operation in self.operations if box in operation.boxes]

    def called(self, words: Sequence[str], labels: Sequence[str]) -> OperationsContext:
        """The same with other names."""
        return replace(self, words=tuple(words), labels=tuple(labels))


def objects_needed(filled: int, kinds: Sequence[Kind]) -> int:
    """How many objects a context has."""
    return filled + kinds.count("put")


def labels_needed(filled: int, kinds: Sequence[Kind]) -> int:
    """How many boxes a context may have: each put or move may go into a new one."""
    return filled + kinds.count("put") + kinds.count("move")


def draw_context(
    random: Random, filled: int, kinds: Sequence[Kind], words: Sequence[str], labels: Sequence[str]
) -> OperationsContext:
    """A context in which each of some operations happens, in random order.

    Args:
        random: Source of randomness; advanced.
        filled: Boxes that are full at first.
        kinds: What happens.
        words: What objects may be called.
        labels: What boxes may be called.

    Raises:
        UserError: No order of these operations can happen.
    """
    for _ in range(_TRIES):
        operations = _draw_operations(random, filled, random.sample(list(kinds), len(kinds)))
        if operations is not None:
            called = random.sample(list(words), objects_needed(filled, kinds))
            lettered = random.sample(list(labels), labels_needed(filled, kinds))
            return OperationsContext(filled, operations, tuple(called), tuple(lettered))
    raise UserError("task.operations", f"{', '.join(kinds)} cannot happen to {filled} boxes", fix="use more boxes")


def _draw_operations(random: Random, filled: int, kinds: Sequence[Kind]) -> tuple[Operation, ...] | None:
    """Operations of these kinds in this order; None where one cannot happen, or no box is full in the end."""
    state, new = {box: box for box in range(filled)}, filled
    boxes, operations = filled, list[Operation]()
    for kind in kinds:
        full = list(state)
        if len(full) < {"put": 0, "remove": 1, "move": 1, "swap": 2}[kind]:
            return None
        empty = random.choice([*(box for box in range(boxes) if box not in state), boxes])
        operation = _draw_one(random, kind, state, empty, new)
        new += kind == "put"
        boxes = max(boxes, 1 + max(operation.boxes))
        state = operation.applied(state)
        operations.append(operation)
    return tuple(operations) if state else None


def _draw_one(random: Random, kind: Kind, state: Mapping[int, int], empty: int, new: int) -> Operation:
    """An operation of a kind: `empty` is a box to fill, `new` an object that comes in."""
    full = list(state)
    if kind == "put":
        return Operation("put", empty, new)
    one = random.choice(full)
    if kind == "remove":
        return Operation("remove", one, state[one])
    if kind == "move":
        return Operation("move", empty, state[one], one)
    other = random.choice([box for box in full if box != one])
    return Operation("swap", one, state[one], other, state[other])


def _need(possible: bool) -> None:
    if not possible:
        raise ValueError("the operation cannot happen")
