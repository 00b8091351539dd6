"""Prompts that are patched together: every draw of counterfactuals for the same clean prompts, a session a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.quirks import Quirk
from entitrack.methods.activation_patching.settings import NOTHING
from entitrack.methods.desideratum_pairs import (
    EncodedPairs,
    encode_pairs,
    head_positions,
    pair_inputs,
)
from entitrack.methods.experiment import Experiment
from entitrack.tasks.protocol import LAST, PREV_QUERY_LABEL, DesideratumPair

_NOBODY = Group(NOTHING, LAST, ((0, 0),))
"""Run in place of a circuit without heads; its head is never patched."""

Drawn = Sequence[tuple[str, Sequence[DesideratumPair]]]
"""Name of a desideratum, and pairs; once for every desideratum and draw."""


@dataclass(frozen=True)
class Unit:
    """Some prompts, with all counterfactuals that they are patched from: a session a model.

    Attributes:
        rows: Which prompts.
        draws: Numbers of the draws, over all desiderata.
        encoded: The pairs of each draw.
        circuits: For each draw, the heads that are patched.
    """

    rows: slice
    draws: list[int]
    encoded: list[EncodedPairs]
    circuits: list[Circuit]


def make_units(experiment: Experiment, circuits: Mapping[str, Circuit], drawn: Drawn) -> list[Unit]:
    """The pairs in batches. Draws of the same clean prompts go together."""
    shared = PREV_QUERY_LABEL if Quirk.CLEAN_POSITION in experiment.quirks else None
    together: dict[tuple[str, ...], list[int]] = {}
    for number, (_, pairs) in enumerate(drawn):
        together.setdefault(tuple(pair.clean.text for pair in pairs), []).append(number)
    units = []
    for numbers in together.values():
        for start in range(0, len(drawn[0][1]), experiment.batch_size):
            rows = slice(start, start + experiment.batch_size)
            encoded = [encode_pairs(experiment, drawn[number][1][rows], shared) for number in numbers]
            units.append(Unit(rows, numbers, encoded, [circuits[drawn[number][0]] for number in numbers]))
    return units


def masked_inputs(circuit: Circuit, unit: Unit) -> dict[str, Any]:
    """What `masked_answers` needs to patch z of each group's heads from each draw."""
    groups = patched_groups(circuit)
    return {
        **_group_inputs(groups, unit),
        "masks": [torch.stack([kept_heads(group, patched) for patched in unit.circuits]) for group in groups],
        "draws": list(range(len(unit.draws))),
    }


def moved_inputs(circuit: Circuit, unit: Unit, component: str) -> dict[str, Any]:
    """What `moved_answers` needs to patch a component of the layers of each group's heads from each draw."""
    return {**_group_inputs(patched_groups(circuit), unit), "component": component}


def patched_groups(circuit: Circuit) -> Sequence[Group]:
    """The groups that have heads; there is always one."""
    return [group for group in circuit.groups if group.heads] or [_NOBODY]


def _group_inputs(groups: Sequence[Group], unit: Unit) -> dict[str, Any]:
    """The heads of each group with their positions, and the prompts."""
    heads = [{"heads": [list(head) for head in group.heads], **head_positions(group, unit.encoded)} for group in groups]
    return {"groups": heads, "batch": pair_inputs(unit.encoded)}


def unit_predictions(circuit: Circuit, output: Mapping[str, Tensor]) -> Int[Tensor, "group draw batch"]:
    """What is answered: nothing patched, then each group; a group without heads changes nothing."""
    unpatched = output["own"].expand_as(output["prediction"][0])
    patched = iter(output["prediction"])
    return torch.stack([unpatched, *(next(patched) if group.heads else unpatched for group in circuit.groups)])


def kept_heads(group: Group, circuit: Circuit) -> Float[Tensor, " head"]:
    """The mask that patches the heads that a circuit has of the group: 1 keeps a head's own z."""
    patched = next((other.heads for other in circuit.groups if other.name == group.name), ())
    return torch.tensor([0.0 if head in patched else 1.0 for head in group.heads])
