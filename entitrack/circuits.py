"""Circuits: named groups of heads, and what they were found on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from entitrack.engine.anatomy import Anatomy
from entitrack.errors import UserError
from entitrack.models.anatomy import Head, check_heads
from entitrack.models.family import ZOO

RESERVED = ("nothing", "full circuit", "base", "donor")
"""What stands beside groups in results."""

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

    def choose(self, names: Sequence[str], place: str) -> tuple[Group, ...]:
        """The groups of these names, all of them if none is named.

        Raises:
            UserError: There is no such group, or one is named twice.
        """
        if len(set(names)) < len(names):
            raise UserError(place, "a group is there twice")
        return tuple(self.group(name, place) for name in names) or self.groups

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
    found_on = record.get("found_on", {})
    if not isinstance(found_on, dict):
        raise UserError(
            str(path), f"not a circuit (found_on is {found_on!r})", fix="leave it out, or make it an object"
        )
    return Circuit(groups, found_on)


def _group(entry: Mapping[str, Any]) -> Group:
    return Group(str(entry["name"]), str(entry["role"]), heads_of(entry["heads"]))


def heads_of(listed: Iterable[Any]) -> tuple[Head, ...]:
    """Heads as a file lists them.

    Raises:
        TypeError: They are not all `[layer, head]` as whole numbers.
    """
    heads = tuple((layer, head) for layer, head in listed)
    if not all(type(index) is int for head in heads for index in head):
        raise TypeError(f"heads {[list(head) for head in heads]} are not all [layer, head] as whole numbers")
    return heads


def _refuse_ambiguous(groups: Sequence[Group], place: str) -> None:
    """Refuse a circuit without groups, names that stand for something else or twice, and heads listed twice."""
    if not groups:
        raise UserError(place, "the circuit has no groups")
    names = [group.name for group in groups]
    for group in groups:
        if names.count(group.name) > 1:
            raise UserError(place, f"two groups are called {group.name!r}")
        if group.name in RESERVED or group.name.startswith("random"):
            raise UserError(place, f"no group may be called {group.name!r}: tables have a row of that name")
        if len(set(group.heads)) < len(group.heads):
            raise UserError(place, f"group {group.name!r} lists a head twice")
