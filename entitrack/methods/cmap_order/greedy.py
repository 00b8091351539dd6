"""The greedy order of units: at each step the one that brings the recipient closest to the donor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.methods.transplanted import Answers

Units = Bool[Tensor, "unit role layer head"]


@dataclass(frozen=True)
class Search:
    """What was tried, and what was taken.

    Attributes:
        order: Numbers of the units that were taken, in order.
        towards: 1 where the donor is better than the recipient, -1 where it is worse.
        accuracy: With each unit on top of those taken before, at each step; not a number for those.
        probability: The same of the mean probability of the right answer.
    """

    order: list[int]
    towards: int
    accuracy: Float[Tensor, "step unit"]
    probability: Float[Tensor, "step unit"]


def greedy(
    units: Units, answers: Callable[[Bool[Tensor, "set role layer head"]], Answers], steps: int, towards: int
) -> Search:
    """Take units one by one.

    Args:
        units: The heads of each.
        answers: What is answered with sets of heads, on the prompts to choose on.
        steps: How many are taken.
        towards: 1 where the donor is better than the recipient, -1 where it is worse.
    """
    taken = torch.zeros_like(units[0])
    order: list[int] = []
    accuracy = torch.full((steps, len(units)), torch.nan, dtype=torch.float64)
    probability = accuracy.clone()
    for step in range(steps):
        left = [number for number in range(len(units)) if number not in order]
        answered = answers(units[left] | taken)
        for place, number in enumerate(left):
            accuracy[step, number], probability[step, number] = answered.worth(place)

        def worth(number: int, step: int = step) -> tuple[float, float, int]:
            """Accuracy, then probability, both towards the donor; then the unit's place."""
            return towards * float(accuracy[step, number]), towards * float(probability[step, number]), -number

        order.append(max(left, key=worth))
        taken = taken | units[order[-1]]
    return Search(order, towards, accuracy, probability)
