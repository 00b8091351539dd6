"""What moves from the donor into the base, batch by batch: sites, which of them each transplant has, what stays live.

- output form: z of the heads at their group's role; or, of the layers of those heads, a component without heads at
  that role.
- input form: q of the heads at the role, k and v at the positions before it of the KV groups that they share. Every z
  outside the last token is then held at the base's own value, but for the group's own heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entitrack.core.circuits import Group
from entitrack.core.components import WITH_HEADS
from entitrack.core.quirks import Quirk, Quirks
from entitrack.methods.experiment import role_positions
from entitrack.models.anatomy import kv_groups
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import PREV_QUERY_LABEL


@dataclass(frozen=True)
class Transplant:
    """What moves together.

    Attributes:
        name: Of its row.
        groups: The groups whose heads, or whose heads' layers, move.
        component: What of them moves: an entry of `method.components`.
    """

    name: str
    groups: Sequence[Group]
    component: str


@dataclass(frozen=True)
class Plan:
    """Transplants, as interventions take them, for one batch.

    Attributes:
        sites: What is read in the donor.
        variants: For each transplant the numbers of its sites.
        live: For each transplant the sites of z that stay live while all others are held; None holds nothing.
    """

    sites: list[dict[str, Any]]
    variants: list[list[int]]
    live: list[list[dict[str, Any]]] | None


def plan_outputs(batch: EncodedBatch, transplants: Sequence[Transplant]) -> Plan:
    """The output form."""
    components = list(dict.fromkeys(one.component for one in transplants))
    sites: list[dict[str, Any]] = []
    numbers: dict[tuple[Group, str], list[int]] = {}
    for group, site in group_sites(transplants, batch):
        for component in components:
            numbers.setdefault((group, component), []).append(len(sites))
            sites.append(site if component == "z" else _without_heads(site, component))
    variants = [[n for group in one.groups for n in numbers.get((group, one.component), [])] for one in transplants]
    return Plan(sites, [sorted(variant) for variant in variants], None)


def plan_inputs(base: Model, batch: EncodedBatch, transplants: Sequence[Transplant], quirks: Quirks) -> Plan:
    """The input form.

    Args:
        base: The base.
        batch: The prompts.
        transplants: What moves together.
        quirks: Those of the published procedure that are followed.
    """
    found = group_sites(transplants, batch, one_position=Quirk.ONE_POSITION in quirks)
    sites = [site for _, head_site in found for site in input_sites(base, head_site).values()]
    variants, live = [], []
    for one in transplants:
        chosen = [number for number, (group, _) in enumerate(found) if group in one.groups]
        variants.append([3 * number + "qkv".index(name) for number in chosen for name in one.component])
        live.append([] if Quirk.HELD_GROUP in quirks else [found[number][1] for number in chosen])
    return Plan(sites, variants, live)


def _without_heads(site: dict[str, Any], component: str) -> dict[str, Any]:
    """A component of the layer that a site of z is in, at its position."""
    assert component not in WITH_HEADS
    return {"component": component, "layer": site["layer"], "position": site["position"]}


def input_sites(base: Model, site: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the heads of a site read: q at the role, and before it the k and v of the KV groups that they share."""
    grouped = [head for _, head in kv_groups(base.anatomy, [(site["layer"], head) for head in site["heads"]])]
    before = {"heads": grouped, "before": True}
    return {"q": {**site, "component": "q"}, **{name: {**site, **before, "component": name} for name in "kv"}}


def group_sites(
    transplants: Sequence[Transplant], batch: EncodedBatch, one_position: bool = False
) -> list[tuple[Group, dict[str, Any]]]:
    """Each group's z by layer, at its role, with the group; in ascending order of layers.

    Args:
        transplants: Their groups are meant, each once.
        batch: The prompts.
        one_position: As published: heads that read structure are at the position of the batch's first prompt.
    """
    listed: list[tuple[Group, dict[str, Any]]] = []
    for group in dict.fromkeys(group for one in transplants for group in one.groups):
        position = role_positions(batch, group.role, f"circuit, group {group.name!r}")
        if one_position and group.role == PREV_QUERY_LABEL:
            position = position[:1].expand_as(position).clone()
        for layer in sorted({layer for layer, _ in group.heads}):
            heads = [head for where, head in group.heads if where == layer]
            listed.append((group, {"component": "z", "layer": layer, "heads": heads, "position": position}))
    return sorted(listed, key=lambda entry: entry[1]["layer"])
