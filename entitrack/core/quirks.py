"""Quirks of the published procedure: what its code does and its text does not say.

`compat=paper` follows those that a run touches, the default follows none. A method and a task each list theirs, so a
run that none of them touches is refused rather than recorded under a name that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum


class Quirk(StrEnum):
    """One thing that the published code does; `QUIRKS` says what, and what is done instead."""

    QUESTION_LETTER = "question_letter"
    OWN_POSITION = "own_position"
    REDRAWN_POSITION = "redrawn_position"
    SHARED_HEADS = "shared_heads"
    ROUNDED_F = "rounded_f"
    HEADS_WITH_REPLACEMENT = "heads_with_replacement"
    PAIRS_OF_ONE_INDEX = "pairs_of_one_index"
    OTHER_ORDER = "other_order"
    RATIO_SCORE = "ratio_score"
    CLEAN_POSITION = "clean_position"
    TRAINING_POSITION = "training_position"
    SPLIT_BY_PROMPT = "split_by_prompt"
    TWO_EPOCHS = "two_epochs"
    DONOR_CIRCUIT = "donor_circuit"
    HELD_GROUP = "held_group"
    ONE_POSITION = "one_position"


@dataclass(frozen=True)
class Procedure:
    """What a quirk is.

    Attributes:
        where: The step of the procedure.
        published: What the published code does.
        default: What is done instead.
        of_prompts: It is about how prompts are drawn, or a role that they have: only tasks that list it have it.
    """

    where: str
    published: str
    default: str
    of_prompts: bool = False


QUIRKS: dict[Quirk, Procedure] = {
    Quirk.QUESTION_LETTER: Procedure(
        "path patching, counterfactuals",
        "the question's letter is drawn from the whole alphabet, so a box of the context may have it",
        "neither context has it",
        of_prompts=True,
    ),
    Quirk.OWN_POSITION: Procedure(
        "desiderata, counterfactuals",
        "they are others of the clean prompts that do not ask for the first box; 1 in 6 has the clean one's position",
        "drawn for each prompt, at another position",
        of_prompts=True,
    ),
    Quirk.REDRAWN_POSITION: Procedure(
        "path patching, structure readers",
        "the box label that is read is drawn anew for every head, layer and batch",
        "drawn once a prompt",
        of_prompts=True,
    ),
    Quirk.SHARED_HEADS: Procedure(
        "ablation, minimality, dcm",
        "a head that two groups have at one role is taken out of the one that is nearer to the output",
        "it stays in both",
    ),
    Quirk.ROUNDED_F: Procedure(
        "faithfulness, minimality",
        "F is rounded to 2 decimals before ratios are taken",
        "F is not rounded",
    ),
    Quirk.HEADS_WITH_REPLACEMENT: Procedure(
        "faithfulness, random circuits",
        "heads are drawn with replacement, so there may be fewer",
        "without",
    ),
    Quirk.PAIRS_OF_ONE_INDEX: Procedure(
        "minimality, pairs",
        "two heads that have one index in different layers are never removed together",
        "they are",
    ),
    Quirk.OTHER_ORDER: Procedure(
        "minimality, pairs of one head index",
        "where F of one order is 0.00 it takes that of the other",
        "a pair has one F",
    ),
    Quirk.RATIO_SCORE: Procedure(
        "minimality, scores",
        "what a head does is a ratio, F(C\\K) / F(C\\(K+v)) - 1, without bound as the second goes to 0",
        "it is what is lost, F(C\\K) - F(C\\(K+v)), as a share of the larger of the two",
    ),
    Quirk.CLEAN_POSITION: Procedure(
        "activation patching, structure readers",
        "counterfactuals are read at the clean prompt's position",
        "each at its own",
        of_prompts=True,
    ),
    Quirk.TRAINING_POSITION: Procedure(
        "dcm, structure readers",
        "validation prompts are patched at the positions of the training batch",
        "each at its own",
        of_prompts=True,
    ),
    Quirk.SPLIT_BY_PROMPT: Procedure(
        "dcm, splits",
        "training, validation and test prompts may ask about one context",
        "a context is in one of them",
    ),
    Quirk.TWO_EPOCHS: Procedure(
        "dcm, training",
        "two epochs whatever comes of them, the first validation after the first step",
        "at most `steps`, until validation no longer improves",
    ),
    Quirk.DONOR_CIRCUIT: Procedure(
        "cmap, heads",
        "the donor's own circuit, its groups narrowed to the heads that `masks` has: of value fetchers by object value,"
        " of position transmitters and detectors by position",
        "whole groups of the circuit that `circuit` names; `masks` narrows where it is given",
    ),
    Quirk.HELD_GROUP: Procedure(
        "cmap, input form before the last token",
        "every z is held there, the group's own too, so that its q does nothing",
        "the group's own heads stay live",
    ),
    Quirk.ONE_POSITION: Procedure(
        "cmap, input form of structure readers",
        "a batch is patched at the position of its first prompt",
        "each prompt at its own",
        of_prompts=True,
    ),
}


Quirks = Set[Quirk]
"""The quirks that a run follows."""

NONE: frozenset[Quirk] = frozenset()


def followed(of_method: Iterable[Quirk], of_task: Iterable[Quirk]) -> frozenset[Quirk]:
    """The quirks that `compat=paper` means for a method and a task; none if it touches nothing there."""
    own = set(of_task)
    return frozenset(quirk for quirk in of_method if quirk in own or not QUIRKS[quirk].of_prompts)


def published_notes(followed: Iterable[str]) -> list[str]:
    """What a reader is told of the quirks that a result followed."""
    return [f"as published, {QUIRKS[Quirk(name)].published}" for name in followed]
