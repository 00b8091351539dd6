"""Desideratum pairs, as the methods that patch them need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.errors import UserError
from entitrack.methods.experiment import Experiment, role_positions
from entitrack.tasks.encoding import EncodedBatch, check_first_tokens
from entitrack.tasks.protocol import LAST, DesideratumPair, origin_of
from entitrack.tasks.writing import TextPrompt, aim


@dataclass(frozen=True)
class EncodedPairs:
    """Pairs as a model reads them.

    Attributes:
        clean: The clean prompts; their answers are the targets.
        source: The counterfactuals.
        shared_positions: Role at which the published procedure reads the counterfactual at the clean prompt's
            position; None when every prompt has its own.
    """

    clean: EncodedBatch
    source: EncodedBatch
    shared_positions: str | None = None

    def source_position(self, role: str, place: str) -> Int[Tensor, " batch"]:
        """Where the counterfactuals are read for a role."""
        return role_positions(self.clean if role == self.shared_positions else self.source, role, place)


def check_targets(experiment: Experiment, pairs: Sequence[DesideratumPair]) -> None:
    """Refuse pairs whose target begins with the token of another answer, as if that had been answered.

    Raises:
        UserError: Naming the clean prompt and the words.
    """
    choices: dict[TextPrompt, None] = {}
    for number, pair in enumerate(pairs):
        offered = {pair.clean.answer, *getattr(pair.clean, "alternatives", ()), pair.target}
        answer, *others = sorted(offered)
        choice = TextPrompt(pair.clean.text, answer, origin=origin_of(pair.clean, number), alternatives=tuple(others))
        choices[choice] = None
    check_first_tokens(list(choices), experiment.family.tokenizer)


def encode_pairs(
    experiment: Experiment, pairs: Sequence[DesideratumPair], shared_positions: str | None = None
) -> EncodedPairs:
    """Tokenize pairs."""
    clean = experiment.encode([aim(pair.clean, pair.target) for pair in pairs])
    source = experiment.encode([pair.counterfactual for pair in pairs])
    return EncodedPairs(clean, source, shared_positions)


def pair_inputs(encoded: Sequence[EncodedPairs]) -> dict[str, Any]:
    """Draws of counterfactuals for the same clean prompts, as `engine.masks.prepare` takes them."""
    clean = encoded[0].clean
    return {
        "clean": {"tokens": clean.tokens, "mask": clean.mask, "last": clean.positions[LAST]},
        "sources": [{"tokens": entry.source.tokens, "mask": entry.source.mask} for entry in encoded],
        "targets": torch.stack([entry.clean.answers for entry in encoded]),
    }


def head_positions(group: Group, encoded: Sequence[EncodedPairs]) -> dict[str, Tensor]:
    """Where each head of a group is patched in the clean prompts, and read in each draw of counterfactuals."""
    place, count = f"circuit, group {group.name!r}", len(group.heads)
    patched = role_positions(encoded[0].clean, group.role, place)
    read = torch.stack([entry.source_position(group.role, place) for entry in encoded])
    if any(bool((where > entry.source.positions[LAST]).any()) for where, entry in zip(read, encoded, strict=True)):
        problem = f"counterfactuals are read where the clean prompts have {group.role!r}, and some end before that"
        raise UserError("compat", problem, fix="use compat=default with these desiderata")
    return {"positions": patched.repeat(count, 1), "source_positions": read[:, None].repeat(1, count, 1)}
