"""Two results of one method side by side: what they were asked differently, and what came out differently.

1. Facts and provenance are compared key by key, without date, cost and command.
2. Measurements with the same axes, entries and prompts are compared value by value.
3. Where values are by prompt, the second minus the first is estimated entry by entry, paired over the prompts; those
   whose interval excludes 0 are listed, and those that have none. With many entries, one in twenty is there by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.plain import leaves
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate, difference
from entitrack.core.table import Cell, Table

_NOT_COMPARED = ("date", "cost", "command", "overrides")


@dataclass(frozen=True)
class Comparison:
    """How two results differ.

    Attributes:
        settings: Key by key, what differs of what they are about and what they were computed from.
        values: Name by name, how far measurements are apart.
        changes: Entry by entry, where the difference's interval excludes 0, or there is none.
    """

    settings: Table
    values: Table
    changes: Table

    @property
    def tables(self) -> tuple[Table, Table, Table]:
        """All of it."""
        return (self.settings, self.values, self.changes)

    @property
    def same_values(self) -> bool:
        """Whether all measurements are there twice, of the same things, with the same values."""
        return all(row[1] == 0 for row in self.values.rows)

    def _repr_html_(self) -> str:
        """The tables, as a notebook shows them."""
        return "".join(table.to_html() for table in self.tables)


def compare(first: Result, second: Result) -> Comparison:
    """How two results of one method differ.

    Raises:
        UserError: They are of two methods.
    """
    if first.method != second.method:
        problem = f"the one is of method {first.method!r}, the other of {second.method!r}"
        raise UserError("compare", problem, fix="compare results of one method")
    names = list(dict.fromkeys((*first.measurements, *second.measurements)))
    values = tuple((name, *_apart(first, second, name)) for name in names)
    changes = tuple(
        row for name, apart, _ in values if isinstance(apart, float) for row in _changes(first, second, name)
    )
    return Comparison(
        Table("What differs in what was asked", ("key", "first", "second"), tuple(_different_keys(first, second))),
        Table("How far values are apart", ("measurement", "largest difference", "not compared"), values),
        Table(
            "Second minus first, where the interval excludes 0 or there is none",
            ("measurement", "entry", "change [95 %]"),
            changes,
        ),
    )


def _different_keys(first: Result, second: Result) -> Iterator[tuple[Cell, ...]]:
    both = [dict(leaves({"facts": result.facts, **result.provenance})) for result in (first, second)]
    for key in dict.fromkeys((*both[0], *both[1])):
        cells = [str(of_one[key]) if key in of_one else None for of_one in both]
        if key.split(".")[0] not in _NOT_COMPARED and cells[0] != cells[1]:
            yield (key, *cells)


def _apart(first: Result, second: Result, name: str) -> tuple[float | None, str | None]:
    """The largest absolute difference of a measurement's values, or why there is none."""
    both = [result.measurements.get(name) for result in (first, second)]
    one, other = both
    if one is None or other is None:
        return None, f"only the {'second' if one is None else 'first'} has it"
    if (one.axes, dict(one.labels), one.values.shape) != (other.axes, dict(other.labels), other.values.shape):
        return None, "other axes or entries"
    if one.prompts != other.prompts:
        return None, "other prompts"
    return float(_distance(one.values, other.values).max()) if one.values.numel() else 0.0, None


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Absolute differences: infinite where one alone is a number, 0 where both are the same or none is one."""
    apart = (one.double() - other.double()).abs()
    apart[one.isnan() != other.isnan()] = torch.inf
    return apart.masked_fill((one == other) | (one.isnan() & other.isnan()), 0.0)


def _changes(first: Result, second: Result, name: str) -> Iterator[tuple[Cell, ...]]:
    """The entries of a measurement whose change over the prompts may not be 0, by its interval; tokens have none."""
    one, other = first[name], second[name]
    if one.prompts is None or not (one.values.is_floating_point() or one.values.dtype == torch.bool):
        return
    axes = [axis for axis in one.axes if axis != PROMPT]
    for entry in product(*(range(one.size(axis)) for axis in axes)):
        change = _change(one, other, entry)
        if change is not None and (change.without or change.low > 0 or change.high < 0):
            labels = ", ".join(one.names(axis)[number] for axis, number in zip(axes, entry, strict=True))
            yield (name, labels, change)


def _change(one: Measurement, other: Measurement, entry: tuple[int, ...]) -> Estimate | None:
    before, after = one.values[entry], other.values[entry]
    usable = before.isfinite() & after.isfinite()
    if not usable.any() or torch.equal(before[usable], after[usable]):
        return None
    return difference(after[usable], before[usable], one.clusters[usable])
