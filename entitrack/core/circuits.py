"""Circuits: named groups of heads, and what they were found on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from entitrack.core.errors import UserError, quoted
from entitrack.core.names import check_name
from entitrack.disk.files import appearing
from entitrack.disk.reading import first_repeated, read_json, take
from entitrack.engine.anatomy import Anatomy
from entitrack.models.anatomy import Head, check_heads
from entitrack.models.family import ZOO

RESERVED = ("nothing", "full circuit", "all heads at last", "all heads at the roles", "base", "donor")
"""What stands beside groups in results; so do `random 1`, `random 2`, ..., see `check_group_name`."""

_RANDOM = re.compile(r"random \d+")

SHIPPED = {
    **{name: ZOO / name / "circuits" for name in ("sparse", "tiny")},
    "llama-7b": Path(__file__).parents[1] / "models" / "published" / "llama-7b",
}
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
        raise UserError(place, f"no group {quoted(name)} in the circuit", [group.name for group in self.groups])

    def choose(self, names: Sequence[str], place: str) -> tuple[Group, ...]:
        """The groups of these names, all of them if none is named.

        Raises:
            UserError: There is no such group, or one is named twice.
        """
        for index, name in enumerate(names):
            if name in names[:index]:
                raise UserError(f"{place}.{index}", f"group {quoted(name)} is there twice")
        return tuple(self.group(name, f"{place}.{index}") for index, name in enumerate(names)) or self.groups

    def with_heads_once(self) -> Circuit:
        """The circuit without the heads that a later group has at the same role."""
        groups = []
        for number, group in enumerate(self.groups):
            later = {head for other in self.groups[number + 1 :] if other.role == group.role for head in other.heads}
            groups.append(replace(group, heads=tuple(head for head in group.heads if head not in later)))
        return Circuit(tuple(groups), self.found_on)

    def with_roles(self, names: Mapping[str, str]) -> Circuit:
        """The circuit with other names for roles, where there are any: two of one token would be held apart."""
        groups = tuple(replace(group, role=names.get(group.role, group.role)) for group in self.groups)
        return replace(self, groups=groups)

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

    def plain_groups(self) -> list[dict[str, Any]]:
        """Its groups as plain values, without a word of where they come from."""
        return [
            {"name": group.name, "role": group.role, "heads": [list(head) for head in group.heads]}
            for group in self.groups
        ]

    def write(self, path: Path) -> None:
        """Write it as JSON; the file is there whole or not at all."""
        record = {"groups": self.plain_groups(), "found_on": dict(self.found_on)}
        with appearing(path) as stream:
            stream.write((json.dumps(record, indent=1) + "\n").encode())


def shipped_circuits(family: str) -> list[str]:
    """Names of the circuits that are shipped with a family."""
    folder = SHIPPED.get(family)
    return sorted(file.stem for file in folder.glob("*.json")) if folder else []


def read_circuit(name: str, family: str, place: str = "circuit") -> Circuit:
    """A circuit from a file, or one that is shipped with the family.

    Args:
        name: A path, or the name of a shipped circuit.
        family: Name of the family.
        place: The config key that named it.

    Raises:
        UserError: There is no such file or name, or it does not hold a circuit.
    """
    shipped = shipped_circuits(family)
    path = str(SHIPPED[family] / f"{name}.json") if name in shipped else name
    if not os.path.lexists(path):
        fix = "or find one with method=path_patching and pass the path of its circuit.json"
        problem = f"no file {quoted(name)}, and family {quoted(family)} ships no such circuit"
        raise UserError(place, problem, shipped, fix)
    record = read_json(path, place)
    try:
        groups = tuple(_group(entry, index, path) for index, entry in enumerate(take(record, "groups", list)))
        found_on = take(record, "found_on", dict, otherwise={})
    except ValueError as error:
        raise UserError(path, f"not a circuit ({error})") from error
    if not groups:
        raise UserError(path, "the circuit has no groups")
    twice = first_repeated(group.name for group in groups)
    if twice is not None:
        raise UserError(path, f"two groups are called {twice!r}")
    return Circuit(groups, found_on)


def check_group_name(name: object, place: str) -> str:
    """A group's name, if it may be one; see `entitrack.core.names`.

    Raises:
        UserError: It may not, or tables have a row of that name besides the groups.
    """
    found = check_name(name, place, RESERVED)
    if _RANDOM.fullmatch(found):
        raise UserError(place, f"no group may be called {found!r}: random sets of heads are called so")
    return found


def is_random(name: str) -> bool:
    """Whether a name is that of a random set of heads, not of a group."""
    return bool(_RANDOM.fullmatch(name))


def _group(entry: Any, index: int, path: str) -> Group:
    """A group as a file lists it."""
    if not isinstance(entry, dict):
        raise ValueError(f"group {index} is {quoted(entry)}, not an object")
    name = check_group_name(take(entry, "name", str), f"{path}, name of group {index}")
    role = check_name(take(entry, "role", str), f"{path}, role of group {name!r}")
    try:
        return Group(name, role, heads_of(entry.get("heads")))
    except ValueError as error:
        raise UserError(f"{path}, group {name!r}", str(error)) from error


def heads_of(listed: Any) -> tuple[Head, ...]:
    """Heads as a file lists them, each once.

    Raises:
        ValueError: They are not all `[layer, head]` as whole numbers from 0, or one is there twice.
    """
    if not isinstance(listed, list):
        raise ValueError(f"heads are {quoted(listed)}, not a list")
    for entry in listed:
        # `type` and not `isinstance`: true and false are whole numbers to Python.
        whole = isinstance(entry, list) and len(entry) == 2 and all(type(index) is int for index in entry)
        if not whole or min(entry) < 0:
            raise ValueError(f"{quoted(entry)} is not [layer, head] as whole numbers from 0")
    heads = tuple((layer, head) for layer, head in listed)
    twice = first_repeated(heads)
    if twice is not None:
        raise ValueError(f"lists a head twice: {list(twice)}")
    return heads
