"""The sets of heads in which two circuits are compared: by group, by role, and all together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.ranks import rank_correlation
from entitrack.core.statistics.overlaps import Overlap, Stratum
from entitrack.models.anatomy import Head

Place = tuple[str, Head]
"""A head at a role, which is what a circuit has."""

GROUP, ROLE, WHOLE = "group", "role", "circuit"


@dataclass(frozen=True)
class HeadSets:
    """What two circuits have under one name, most important first where there is an order.

    Attributes:
        kind: `group`, `role` or `circuit`.
        name: Of the group or role.
        first: What the first circuit has.
        second: What the second has.
    """

    kind: str
    name: str
    first: tuple[Place, ...]
    second: tuple[Place, ...]

    @property
    def label(self) -> str:
        """The name, by which no group is taken for a role."""
        return f"{self.kind} {self.name}".strip()

    @property
    def roles(self) -> list[str]:
        """The roles at which either has heads."""
        return list(dict.fromkeys(role for role, _ in (*self.first, *self.second)))

    def shared(self) -> list[Place]:
        """What both have, in the first one's order."""
        return [place for place in self.first if place in self.second]

    def overlap(self, heads: int) -> Overlap:
        """How far they overlap, where there are so many heads at each role."""
        strata = (Stratum(heads, *(_count(role, side) for side in (self.first, self.second))) for role in self.roles)
        return Overlap(tuple(strata), len(self.shared()))

    @property
    def rank_agreement(self) -> float:
        """Rank correlation of what both have, by its place in each one's order; not a number for sets without one."""
        if self.kind != GROUP:
            return float("nan")
        ranks = [[side.index(place) for place in self.shared()] for side in (self.first, self.second)]
        return rank_correlation(*torch.tensor(ranks).double())


def head_sets(first: Circuit, second: Circuit) -> list[HeadSets]:
    """The sets in which circuits are compared: group by group, role by role, and all."""
    both = (first, second)
    names = dict.fromkeys(group.name for circuit in both for group in circuit.groups)
    roles = dict.fromkeys(group.role for circuit in both for group in circuit.groups)
    return [
        *(HeadSets(GROUP, name, *(_places(_called(circuit, name)) for circuit in both)) for name in names),
        *(HeadSets(ROLE, role, *(_places(_at(circuit, role)) for circuit in both)) for role in roles),
        HeadSets(WHOLE, "", *(_places(circuit.groups) for circuit in both)),
    ]


def moved_to(group: str, head: Head, here: Circuit, there: Circuit) -> list[str]:
    """Groups that a head is in there and not here; none if it is in the one of that name there, or not in it here."""
    if head not in _heads(here, group) or head in _heads(there, group):
        return []
    return [other.name for other in there.groups if head in other.heads and head not in _heads(here, other.name)]


def _called(circuit: Circuit, name: str) -> list[Group]:
    return [group for group in circuit.groups if group.name == name]


def _at(circuit: Circuit, role: str) -> list[Group]:
    return [group for group in circuit.groups if group.role == role]


def _heads(circuit: Circuit, name: str) -> Sequence[Head]:
    return [head for group in _called(circuit, name) for head in group.heads]


def _places(groups: Iterable[Group]) -> tuple[Place, ...]:
    """The heads of groups at their roles, each once."""
    return tuple(dict.fromkeys((group.role, head) for group in groups for head in group.heads))


def _count(role: str, places: Sequence[Place]) -> int:
    return sum(at == role for at, _ in places)
