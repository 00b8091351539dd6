"""Two circuits side by side: what they share, beside chance, and what each was found on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entitrack.core.circuits import Circuit, read_circuit
from entitrack.core.errors import UserError
from entitrack.core.measurement import Measurement, numbers
from entitrack.core.parts import CONTEXTS
from entitrack.core.plain import leaves
from entitrack.core.result import Result
from entitrack.methods.compare.head_sets import GROUP, HeadSets, Place, head_sets, moved_to
from entitrack.methods.compare.settings import Settings
from entitrack.methods.experiment import Experiment


def run(experiment: Experiment, settings: Settings) -> Result:
    """Lay two circuits side by side; no model is run, and none loaded.

    Returns:
        `first`, `second` and `shared`, `by_chance` and `p_value` of it, `jaccard` and `jaccard_by_chance`,
        `of_smaller` and `rank_agreement`, all `[set]`, where a set is a group, a role, or the circuit; not a number
        where there is nothing to share, or no order.
    """
    names = circuit_names(experiment, settings)
    heads = heads_of_model(experiment)
    first, second = (_read(experiment, name, place) for place, name in enumerate(names))
    sets = head_sets(first, second)
    return Result(
        method="compare",
        facts={
            "circuits": names,
            "heads": heads,
            "sets": [_set_facts(each) for each in sets],
            "members": [record for each in sets if each.kind == GROUP for record in _members(each, first, second)],
            "found_on": different_origins(first, second),
            "origins": [bool(circuit.found_on) for circuit in (first, second)],
        },
        measurements=_measurements(sets, heads),
    )


def circuit_names(experiment: Experiment, settings: Settings) -> list[str]:
    """The circuits that are compared: those that are named, or the base's own and the donor's.

    Raises:
        UserError: None is named, and the donor is the base.
    """
    if settings.circuits is not None:
        return list(settings.circuits)
    base, donor = experiment.family.base, experiment.donor
    if donor is None:
        raise UserError("donor", "has no value", experiment.family.members, "or name two circuits in method.circuits")
    if donor == base:
        raise UserError("donor", f"{donor!r} is the base: its circuit is its own", experiment.family.members)
    return [base, donor]


def heads_of_model(experiment: Experiment) -> int:
    """How many heads a model of the family has, at each role."""
    anatomy = experiment.family.anatomy(experiment.family.base, "model.base")
    return anatomy["n_layers"] * anatomy["n_heads"]


def different_origins(first: Circuit, second: Circuit) -> list[tuple[str, Any, Any]]:
    """Key by key, what the circuits were found on, where it is not the same; None where one does not say."""
    told = ({key: value for key, value in circuit.found_on.items() if key != CONTEXTS} for circuit in (first, second))
    one, other = (dict(leaves(each)) for each in told)
    keys = dict.fromkeys((*one, *other))
    return [(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _read(experiment: Experiment, name: str, number: int) -> Circuit:
    """A circuit, if the base could have its heads; whatever roles it names are roles."""
    place = f"method.circuits.{number}"
    circuit = read_circuit(name, experiment.family.name, place)
    anatomy = experiment.family.anatomy(experiment.family.base, "model.base")
    circuit.check(anatomy, [group.role for group in circuit.groups], place)
    experiment.circuits[name] = circuit
    return circuit


def _set_facts(sets: HeadSets) -> dict[str, Any]:
    """What the circuits have under one name, as plain values."""
    sides = {"first": sets.first, "second": sets.second}
    places = {side: [[role, list(head)] for role, head in entries] for side, entries in sides.items()}
    return {"label": sets.label, "kind": sets.kind, "name": sets.name, "roles": sets.roles, **places}


def _members(sets: HeadSets, first: Circuit, second: Circuit) -> Iterator[Mapping[str, Any]]:
    """Every head of a group of either circuit: its rank in each, and where it is instead."""
    for role, head in dict.fromkeys((*sets.first, *sets.second)):
        yield {
            "group": sets.name,
            "role": role,
            "head": list(head),
            "first": _rank((role, head), sets.first),
            "second": _rank((role, head), sets.second),
            "moved": [*moved_to(sets.name, head, first, second), *moved_to(sets.name, head, second, first)],
        }


def _rank(place: Place, places: Sequence[Place]) -> int | None:
    return places.index(place) + 1 if place in places else None


def _measurements(sets: Sequence[HeadSets], heads: int) -> dict[str, Measurement]:
    overlaps = {each.label: each.overlap(heads) for each in sets}
    measured: dict[str, dict[str, float]] = {
        "first": {label: overlap.sizes[0] for label, overlap in overlaps.items()},
        "second": {label: overlap.sizes[1] for label, overlap in overlaps.items()},
        "shared": {label: overlap.shared for label, overlap in overlaps.items()},
        "by_chance": {label: overlap.by_chance for label, overlap in overlaps.items()},
        "p_value": {label: overlap.p_value for label, overlap in overlaps.items()},
        "jaccard": {label: overlap.jaccard.value for label, overlap in overlaps.items()},
        "jaccard_by_chance": {label: overlap.jaccard_by_chance for label, overlap in overlaps.items()},
        "of_smaller": {label: overlap.of_smaller.value for label, overlap in overlaps.items()},
        "rank_agreement": {each.label: each.rank_agreement for each in sets},
    }
    return {name: numbers(values, "set") for name, values in measured.items()}
