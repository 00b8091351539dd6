"""Orders of units, which are heads at roles: an order has the place of every unit, from 0 on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.methods.ablated_model import AblatedModel, Circuits
from entitrack.methods.circuit_curve.settings import Order

Places = Int[Tensor, "role layer head"]
"""Place of every unit in an order."""

_DECIMALS = 4
"""Of mean logit differences; more of them are noise of float32, which would order what does nothing."""
_SIZES = 15
"""Of circuits with at least one unit, where none are given."""


def sizes_to_run(given: Sequence[int], units: int, circuit: int) -> list[int]:
    """Sizes of circuits in ascending order: none, all, the given circuit's, and those asked for.

    Args:
        given: Sizes asked for; none stands for a grid whose neighbours are at one ratio, for f rises early.
        units: How many units there are.
        circuit: How many of them the given circuit has.

    Raises:
        UserError: There are fewer units.
    """
    for index, size in enumerate(given):
        if size > units:
            raise UserError(f"method.sizes.{index}", f"{size} is more than the {units} heads at roles that there are")
    grid = given or [round(units ** (step / (_SIZES - 1))) for step in range(_SIZES)]
    return sorted({0, circuit, units, *grid})


def circuits_of(
    places: Int[Tensor, "*order role layer head"], sizes: Sequence[int]
) -> Bool[Tensor, "*order size role layer head"]:
    """The circuit of each size: the units that come before that place."""
    return torch.stack([places < size for size in sizes], -4)


def make_order(kind: Order, ablated: AblatedModel, circuit: Circuit) -> Places:
    """An order of the units of a model, on the prompts that it is prepared for.

    What orders them is the logit difference, whatever F is: most units change no prediction, so accuracy would leave
    them in no order.
    """
    if kind == "greedy":
        return _places(most_added(ablated), ablated)
    ranked = most_missed(ablated)
    if kind == "alone":
        return _places(ranked, ablated)
    first = circuit_units(ablated, circuit)
    return _places([*first, *(unit for unit in ranked if unit not in set(first))], ablated)


def random_orders(ablated: AblatedModel, count: int) -> Int[Tensor, "order role layer head"]:
    """Random orders: the same ones for every model and ablation."""
    generator = torch.Generator().manual_seed(ablated.experiment.seed)
    units = _units(ablated)
    drawn = [_places(torch.randperm(units, generator=generator).tolist(), ablated) for _ in range(count)]
    return torch.stack(drawn) if drawn else torch.empty(0, *ablated.shape, dtype=torch.long)


def most_missed(ablated: AblatedModel) -> list[int]:
    """The units, first the one whose removal alone leaves the least.

    Each is removed from all units, heads elsewhere ablated, and not from the intact model: circuits are parts of the
    former, and in the latter heads elsewhere can stand in for a unit that no circuit can do without.
    """
    units = _units(ablated)
    all_but_one = ~torch.eye(units, dtype=torch.bool).reshape(units, *ablated.shape)
    left = _mean_difference(ablated, all_but_one, torch.ones(ablated.shape, dtype=torch.bool))
    return left.argsort(stable=True).tolist()


def most_added(ablated: AblatedModel) -> list[int]:
    """The units, each the one that adds most to those before it."""
    chosen: list[int] = []
    there = torch.zeros(_units(ablated), dtype=torch.bool)
    while not there.all():
        others = (~there).nonzero().flatten()
        larger = there.repeat(len(others), 1)
        larger[torch.arange(len(others)), others] = True
        reached = _mean_difference(ablated, larger.reshape(-1, *ablated.shape), there.reshape(ablated.shape))
        chosen.append(int(others[reached.argmax()]))
        there[chosen[-1]] = True
    return chosen


def circuit_units(ablated: AblatedModel, circuit: Circuit) -> list[int]:
    """The units of a circuit: the first of every group, the second of every group, and so on.

    Group by group, small circuits would have no heads of whole stages, and nothing would get from one to the next.
    """
    by_group = [[_unit(ablated, group.role, layer, head) for layer, head in group.heads] for group in circuit.groups]
    in_turn = (unit for turn in zip_longest(*by_group) for unit in turn if unit is not None)
    return list(dict.fromkeys(in_turn))


def _unit(ablated: AblatedModel, role: str, layer: int, head: int) -> int:
    _, layers, heads = ablated.shape
    return (ablated.roles.index(role) * layers + layer) * heads + head


def _units(ablated: AblatedModel) -> int:
    return int(torch.tensor(ablated.shape).prod())


def _places(ranked: Sequence[int], ablated: AblatedModel) -> Places:
    """The place of every unit, of units in their order."""
    return torch.tensor(ranked).argsort().reshape(ablated.shape)


def _mean_difference(ablated: AblatedModel, circuits: Circuits, reference: Bool[Tensor, "role layer head"]) -> Tensor:
    """Mean logit difference of circuits, without noise."""
    return ablated.run(circuits, reference).logit_difference.double().mean(1).round(decimals=_DECIMALS)
