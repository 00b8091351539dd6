"""Masks: which heads of each group carry what, as desiderata-based component masking finds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entitrack.core.circuits import Circuit, Group, check_group_name, heads_of
from entitrack.core.errors import UserError, quoted
from entitrack.core.names import check_name
from entitrack.disk.files import appearing
from entitrack.disk.reading import read_json, take
from entitrack.models.anatomy import Head


@dataclass(frozen=True)
class Masks:
    """Heads by group and desideratum.

    Attributes:
        heads: Group -> desideratum -> its heads whose z the mask takes from the counterfactual.
        found_on: Model, circuit, task and settings, as plain values.
    """

    heads: Mapping[str, Mapping[str, tuple[Head, ...]]]
    found_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """On which model they were found, in words; empty where they do not say."""
        model = self.found_on.get("model")
        return f" (found on {model})" if isinstance(model, str) else ""

    def narrow(self, group: Group, desideratum: str, place: str) -> Group:
        """The group with only the heads that were found for a desideratum.

        Raises:
            UserError: None were looked for, or some are not in the group.
        """
        found = self.heads.get(group.name, {}).get(desideratum)
        if found is None:
            known = [f"{name}/{rule}" for name, rules in self.heads.items() for rule in rules]
            raise UserError(place, f"has no mask for {group.name}/{desideratum}", known or ["none"])
        other = [head for head in found if head not in group.heads]
        if other:
            named = quoted([list(head) for head in other])
            problem = f"heads {named} of the mask for {group.name}/{desideratum} are not in the circuit's group"
            raise UserError(place, problem, fix="use the circuit that the masks were found on")
        return Group(group.name, group.role, found)

    def narrow_circuit(self, circuit: Circuit, desideratum: str, place: str) -> Circuit:
        """The circuit with every group narrowed; see `narrow`."""
        return Circuit(tuple(self.narrow(group, desideratum, place) for group in circuit.groups), circuit.found_on)

    def plain_groups(self) -> dict[str, dict[str, list[list[int]]]]:
        """Their heads by group and desideratum as plain values, without a word of where they come from."""
        return {
            group: {rule: [list(head) for head in heads] for rule, heads in rules.items()}
            for group, rules in self.heads.items()
        }

    def write(self, path: Path) -> None:
        """Write them as JSON; the file is there whole or not at all."""
        record = {"heads": self.plain_groups(), "found_on": dict(self.found_on)}
        with appearing(path) as stream:
            stream.write((json.dumps(record, indent=1) + "\n").encode())


def read_masks(path: str, place: str = "method.masks") -> Masks:
    """Masks that `method=dcm` left in its folder.

    Raises:
        UserError: There is no such file, or it does not hold masks.
    """
    if not os.path.lexists(path):
        raise UserError(place, f"no file {quoted(path)}", fix="pass the masks.json of a method=dcm run")
    record = read_json(path, place)
    try:
        heads = {
            check_group_name(group, f"{path}, group"): _by_desideratum(group, rules, path)
            for group, rules in take(record, "heads", dict).items()
        }
        found_on = take(record, "found_on", dict, otherwise={})
    except ValueError as error:
        raise UserError(path, f"does not hold masks ({error})") from error
    return Masks(heads, found_on)


def _by_desideratum(group: str, rules: Any, path: str) -> dict[str, tuple[Head, ...]]:
    """The masks of a group as a file lists them."""
    if not isinstance(rules, dict):
        raise ValueError(f"group {group!r} has {quoted(rules)}, not an object")
    found = {}
    for name, listed in rules.items():
        check_name(name, f"{path}, desideratum of group {group!r}")
        try:
            found[name] = heads_of(listed)
        except ValueError as error:
            raise UserError(f"{path}, mask {group}/{name}", str(error)) from error
    return found
