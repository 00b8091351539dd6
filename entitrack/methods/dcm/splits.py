"""Prompts for training, validation and test of masks: half, a quarter, a quarter (paper, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entitrack.core.circuits import Group
from entitrack.core.errors import UserError
from entitrack.core.measurement import PromptSet
from entitrack.methods.desideratum_pairs import encode_pairs, head_positions, pair_inputs
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.tasks.protocol import DesideratumPair

Draws = Sequence[Sequence[DesideratumPair]]
"""Draw -> pairs; every draw has the same clean prompts."""


@dataclass(frozen=True)
class Splits:
    """Pairs by what they are for.

    Attributes:
        train: Half of the contexts, or of the prompts.
        validation: A quarter.
        test: The rest.
    """

    train: Draws
    validation: Draws
    test: Draws

    @property
    def test_prompts(self) -> PromptSet:
        """The clean prompts of the test."""
        return prompt_set([pair.clean for pair in self.test[0]])


def split(drawn: Draws, by_prompt: bool = False) -> Splits:
    """Half of the contexts to train, a quarter to validate, a quarter to test.

    Args:
        drawn: The pairs, in every draw.
        by_prompt: Count prompts and not contexts, as published: one context may then be in two parts.

    Raises:
        UserError: There are fewer than four contexts.
    """
    unit = [number if by_prompt else pair.clean.cluster for number, pair in enumerate(drawn[0])]
    order = {entry: n for n, entry in enumerate(dict.fromkeys(unit))}
    count, counted = len(order), "prompts" if by_prompt else "contexts"
    if count < 4:
        problem = f"{count} {counted} are too few for training, validation and test"
        raise UserError("task.count", problem, fix=f"ask for {'' if by_prompt else 'prompts of '}at least 4 {counted}")
    half, three_quarters = count // 2, count // 2 + max(1, count // 4)
    ends = ((0, half), (half, three_quarters), (three_quarters, count))
    parts = [
        [[pair for entry, pair in zip(unit, pairs, strict=True) if low <= order[entry] < high] for pairs in drawn]
        for low, high in ends
    ]
    return Splits(*parts)


def batch_inputs(experiment: Experiment, drawn: Draws, group: Group, size: int) -> list[dict[str, Any]]:
    """Pairs as `entitrack.engine.dcm.train_masks` takes them, batch by batch."""
    batches = []
    for start in range(0, len(drawn[0]), size):
        encoded = [encode_pairs(experiment, pairs[start : start + size]) for pairs in drawn]
        batches.append({**pair_inputs(encoded), **head_positions(group, encoded)})
    return batches
