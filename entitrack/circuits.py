"""Circuits: named groups of heads, and what they were found on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from entitrack.errors import UserError
from entitrack.interventions.sites import Anatomy
from entitrack.models.anatomy import Head, check_heads
from entitrack.models.family import ZOO

SHIPPED = {"tiny": ZOO / "circuits", "llama-7b": Path(__file__).parent / "models" / "published" / "llama-7b"}
"""Family -> folder of the circuits that come with the package."""


@dataclass(frozen=True)
class Group:
    """Heads that do one thing.

    Attributes:
        name: `value_fetcher`, `pos_transmitter`, `pos_detector`, `struct_reader`, or a name of one's own.
        role: The position role at which they do it.
        heads: The heads, most important first.
    """

    name: str
    role: str
    heads: tuple[Head, ...]


def count_heads(groups: Iterable[Group]) -> int:
    """Number of (head, role) pairs in groups; a pair that two of them have counts once."""
    return len({(group.role, head) for group in groups for head in group.heads})


@dataclass(frozen=True)
class Circuit:
    """Groups of heads, and what they were found on.

    Attributes:
        groups: The groups, from the output backwards.
        found_on: Model, task, method and settings, as plain values.
    """

    groups: tuple[Group, ...]
    found_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of (head, role) pairs; a pair that two groups have counts once."""
        return count_heads(self.groups)

    def group(self, name: str, place: str = "group") -> Group:
        """The group of that name.

        Raises:
            UserError: There is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise UserError(place, f"no group {name!r} in the circuit", [group.name for group in self.groups])

    def check(self, anatomy: Anatomy, roles: Iterable[str], place: str = "circuit") -> None:
        """Refuse heads that the model does not have and roles that the task does not have.

        Raises:
            UserError: Naming the group.
        """
        known = list(roles)
        for group in self.groups:
            check_heads(anatomy, group.heads, f"{place}, group {group.name!r}")
            if group.role not in known:
                raise UserError(f"{place}, group {group.name!r}", f"the task has no role {group.role!r}", known)

    def write(self, path: Path) -> None:
        """Write it as JSON, with one line a group's heads."""
        record = {"groups": [asdict(group) for group in self.groups], "found_on": dict(self.found_on)}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.replace(path)


def read_circuit(name: str, family: str) -> Circuit:
    """A circuit from a file, or one that is shipped with the family.

    Args:
        name: A path, or the name of a shipped circuit.
        family: Name of the family.

    Raises:
        UserError: There is no such file or name, or it does not hold a circuit.
    """
    folder = SHIPPED.get(family)
    shipped = sorted(file.stem for file in folder.glob("*.json")) if folder else []
    path = folder / f"{name}.json" if folder and name in shipped else Path(name)
    if not path.is_file():
        fix = "or find one with method=path_patching and pass the path of its circuit.json"
        raise UserError("circuit", f"no file {name!r}, and family {family!r} ships no such circuit", shipped, fix)
    try:
        record = json.loads(path.read_text())
        groups = tuple(_group(entry) for entry in record["groups"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), f"not a circuit ({type(error).__name__}: {error})") from error
    _refuse_ambiguous(groups, str(path))
    return Circuit(groups, record.get("found_on", {}))


def _group(entry: Mapping[str, Any]) -> Group:
    heads = tuple((layer, head) for layer, head in entry["heads"])
    if not all(type(index) is int for head in heads for index in head):
        raise TypeError(f"heads of {entry['name']!r} are not all [layer, head] as whole numbers")
    return Group(str(entry["name"]), str(entry["role"]), heads)


def _refuse_ambiguous(groups: Sequence[Group], place: str) -> None:
    """Refuse a circuit without groups, two groups of one name, and a head that a group lists twice."""
    if not groups:
        raise UserError(place, "the circuit has no groups")
    names = [group.name for group in groups]
    for group in groups:
        if names.count(group.name) > 1:
            raise UserError(place, f"two groups are called {group.name!r}")
        if len(set(group.heads)) < len(group.heads):
            raise UserError(place, f"group {group.name!r} lists a head twice")
