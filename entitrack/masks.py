"""Masks: which heads of each group carry what, as desiderata-based component masking finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entitrack.circuits import Circuit, Group, heads_of
from entitrack.errors import UserError
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

    def narrow(self, group: Group, desideratum: str, place: str) -> Group:
        """The group with only the heads that were found for a desideratum.

        Raises:
            UserError: None were looked for, or some are not in the group.
        """
        found = self.heads.get(group.name, {}).get(desideratum)
        if found is None:
            known = [f"{name}/{rule}" for name, rules in self.heads.items() for rule in rules]
            raise UserError(place, f"has no mask for {group.name}/{desideratum}", known)
        other = [head for head in found if head not in group.heads]
        if other:
            problem = f"heads {other} of the mask for {group.name}/{desideratum} are not in the circuit's group"
            raise UserError(place, problem, fix="use the circuit that the masks were found on")
        return Group(group.name, group.role, found)

    def narrow_circuit(self, circuit: Circuit, desideratum: str, place: str) -> Circuit:
        """The circuit with every group narrowed; see `narrow`."""
        return Circuit(tuple(self.narrow(group, desideratum, place) for group in circuit.groups), circuit.found_on)

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        heads = {group: dict(rules) for group, rules in self.heads.items()}
        temporary.write_text(json.dumps({"heads": heads, "found_on": dict(self.found_on)}, indent=1) + "\n")
        temporary.replace(path)


def read_masks(path: str, place: str = "method.masks") -> Masks:
    """Masks that `method=dcm` left in its folder.

    Raises:
        UserError: There is no such file, or it does not hold masks.
    """
    if not Path(path).is_file():
        raise UserError(place, f"no file {path!r}", fix="pass the masks.json of a method=dcm run")
    try:
        record = json.loads(Path(path).read_text())
        heads = {
            str(group): {str(name): heads_of(found) for name, found in rules.items()}
            for group, rules in record["heads"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(path, f"does not hold masks ({type(error).__name__}: {error})") from error
    return Masks(heads, record.get("found_on", {}))
