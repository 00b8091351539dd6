"""What was measured: values with named axes, over prompts that are kept with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.statistics.estimates import Estimate, difference, estimate, p_value, ratio

PROMPT = "prompt"
"""Name of the axis over prompts; it is the last where there is one."""
STEP = "step"
"""Name of the axis over steps of training; values along it as the last are a learning curve."""


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Prompts that something was measured on.

    Attributes:
        texts: What the model read.
        answers: The word that should follow.
        clusters: Context of each: prompts of one context are not independent.
        facets: What results are broken down by -> its value for each prompt.
    """

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    clusters: Int[Tensor, " prompt"] = field(repr=False)
    facets: Mapping[str, Int[Tensor, " prompt"]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self.texts)

    def __eq__(self, other: object) -> bool:
        """Whether another set has the same prompts in the same order."""
        if not isinstance(other, PromptSet):
            return NotImplemented
        same = (self.texts, self.answers, list(self.facets)) == (other.texts, other.answers, list(other.facets))
        return (
            same
            and equal_values(self.clusters, other.clusters)
            and all(equal_values(values, other.facets[name]) for name, values in self.facets.items())
        )

    @staticmethod
    def joined(sets: Sequence[PromptSet]) -> PromptSet:
        """The prompts of several sets in order; contexts of one set are never those of another."""
        clusters, taken = [], 0
        for prompts in sets:
            clusters.append(prompts.clusters + taken)
            taken += int(prompts.clusters.max()) + 1
        return PromptSet(
            tuple(text for prompts in sets for text in prompts.texts),
            tuple(answer for prompts in sets for answer in prompts.answers),
            torch.cat(clusters),
            {name: torch.cat([prompts.facets[name] for prompts in sets]) for name in sets[0].facets},
        )


@dataclass(frozen=True, eq=False)
class Measurement:
    """Values with named axes.

    Attributes:
        values: The values, `[*axes]`; truths, of which means are shares, are bools.
        axes: Name of each axis; the last is `prompt` where values are by prompt.
        labels: Axis -> names of its entries, for axes that have them.
        prompts: The prompts of the axis `prompt`; None without such an axis.
    """

    values: Tensor = field(repr=False)
    axes: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prompts: PromptSet | None = field(default=None, repr=False)
    _estimated: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse axes that are not those of the values, and labels or prompts that do not fit them.

        Raises:
            ValueError: Naming the axis.
        """
        if len(self.axes) != self.values.dim():
            raise ValueError(f"axes {self.axes} of values {tuple(self.values.shape)}")
        if (PROMPT in self.axes) != (self.prompts is not None) or PROMPT in self.axes[:-1]:
            raise ValueError(f"axes {self.axes}: {PROMPT!r} is the last of those with prompts, and of those alone")
        sizes = {name: len(labels) for name, labels in self.labels.items()}
        if self.prompts is not None:
            sizes[PROMPT] = len(self.prompts)
        for name, size in sizes.items():
            if name not in self.axes or self.size(name) != size:
                raise ValueError(
                    f"{size} labels for axis {name!r} of {dict(zip(self.axes, self.values.shape, strict=True))}"
                )

    def __eq__(self, other: object) -> bool:
        """Whether another measurement has the same values, to the bit, of the same things."""
        if not isinstance(other, Measurement):
            return NotImplemented
        about = (self.axes, dict(self.labels)) == (other.axes, dict(other.labels))
        return about and equal_values(self.values, other.values) and self.prompts == other.prompts

    def size(self, axis: str) -> int:
        """Number of entries along an axis."""
        return self.values.shape[self.axes.index(axis)]

    def names(self, axis: str) -> tuple[str, ...]:
        """Names of the entries along an axis; their numbers where they have none."""
        return self.labels.get(axis) or tuple(str(number) for number in range(self.size(axis)))

    @property
    def clusters(self) -> Int[Tensor, " prompt"]:
        """Context of each prompt."""
        if self.prompts is None:
            raise ValueError(f"axes {self.axes} have no prompts")
        return self.prompts.clusters

    def at(self, **where: str | int) -> Measurement:
        """The entries of these names or numbers, without their axes.

        Raises:
            UserError: An axis has no entry of that name.
        """
        measured = self
        for axis, entry in where.items():
            measured = measured._at(axis, entry)
        return measured

    def _at(self, axis: str, entry: str | int) -> Measurement:
        if axis not in self.axes:
            raise UserError(axis, "there is no such axis", self.axes)
        if isinstance(entry, str) and entry not in self.names(axis):
            raise UserError(axis, f"there is no {entry!r}", self.names(axis))
        number = self.names(axis).index(entry) if isinstance(entry, str) else entry
        place = self.axes.index(axis)
        labels = {name: names for name, names in self.labels.items() if name != axis}
        axes = self.axes[:place] + self.axes[place + 1 :]
        return Measurement(self.values.select(place, number), axes, labels, self.prompts if axis != PROMPT else None)

    def where(self, facet: str, value: int) -> Measurement:
        """Only the prompts of which a facet has a value."""
        return self._once(("where", facet, value), lambda: self._where(facet, value))

    def _where(self, facet: str, value: int) -> Measurement:
        assert self.prompts is not None
        rows = self.prompts.facets[facet] == value
        chosen = rows.nonzero().flatten().tolist()
        prompts = PromptSet(
            tuple(self.prompts.texts[row] for row in chosen),
            tuple(self.prompts.answers[row] for row in chosen),
            self.prompts.clusters[rows],
            {name: values[rows] for name, values in self.prompts.facets.items()},
        )
        return Measurement(self.values[..., rows], self.axes, self.labels, prompts)

    def pooled(self, axis: str) -> Measurement:
        """The entries along an axis as further prompts of the same contexts: each prompt is there once for each."""
        return self._once(("pooled", axis), lambda: self._pooled(axis))

    def _pooled(self, axis: str) -> Measurement:
        assert self.prompts is not None
        times = self.size(axis)
        values = self.values.movedim(self.axes.index(axis), -2).flatten(-2)
        labels = {name: names for name, names in self.labels.items() if name != axis}
        prompts = PromptSet(
            self.prompts.texts * times,
            self.prompts.answers * times,
            self.prompts.clusters.repeat(times),
            {name: facet.repeat(times) for name, facet in self.prompts.facets.items()},
        )
        return Measurement(values, tuple(name for name in self.axes if name != axis), labels, prompts)

    def means(self, **where: str | int) -> Float[Tensor, "..."]:
        """Means over prompts, along the axes that are left."""
        return self.at(**where).values.double().mean(-1)

    def number(self, **where: str | int) -> float:
        """The one value of these names or numbers."""
        return float(self.at(**where).values)

    def estimate(self, **where: str | int) -> Estimate:
        """Mean over prompts, with its interval over contexts; of truths, it is a share."""
        return self._once(("estimate", _key(where)), lambda: estimate(self._by_prompt(where), self.clusters))

    def difference(self, first: Mapping[str, str | int], second: Mapping[str, str | int]) -> Estimate:
        """Mean of one entry minus another on the same prompts, with its paired interval."""
        key = ("difference", _key(first), _key(second))
        return self._once(key, lambda: difference(self._by_prompt(first), self._by_prompt(second), self.clusters))

    def p_value(self, first: Mapping[str, str | int], second: Mapping[str, str | int]) -> float:
        """That of the difference; see `estimates.p_value`."""
        key = ("p_value", _key(first), _key(second))
        return self._once(key, lambda: p_value(self._by_prompt(first), self._by_prompt(second), self.clusters))

    def ratio(
        self, first: Mapping[str, str | int], second: Mapping[str, str | int], decimals: int | None = None
    ) -> Estimate:
        """Mean of one entry over that of another on the same prompts, with a paired interval; see `estimates.ratio`."""
        key = ("ratio", _key(first), _key(second), decimals)
        return self._once(key, lambda: ratio(self._by_prompt(first), self._by_prompt(second), self.clusters, decimals))

    def _once(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """What was computed under a key, so that tables and figures share it."""
        if key not in self._estimated:
            self._estimated[key] = compute()
        return self._estimated[key]

    def _by_prompt(self, where: Mapping[str, str | int]) -> Tensor:
        chosen = self.at(**where)
        if chosen.axes != (PROMPT,):
            raise ValueError(f"{where} leaves axes {chosen.axes}: one value a prompt is needed")
        return chosen.values if chosen.values.dtype == torch.bool else chosen.values.double()


def equal_values(first: Tensor, second: Tensor) -> bool:
    """Whether tensors have one type, one shape and the same values; what is not a number equals itself."""
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return False
    return bool(((first == second) | (first != first) & (second != second)).all())


def _key(where: Mapping[str, str | int]) -> Hashable:
    return tuple(sorted(where.items()))


def stacked(rows: Mapping[str, Tensor], axis: str, prompts: PromptSet) -> Measurement:
    """Values by prompt under names, as one measurement with an axis of these names."""
    return Measurement(torch.stack(list(rows.values())), (axis, PROMPT), {axis: tuple(rows)}, prompts)


def numbers(values: Mapping[str, float], axis: str) -> Measurement:
    """One number under each name."""
    return Measurement(torch.tensor(list(values.values()), dtype=torch.float64), (axis,), {axis: tuple(values)})


def heads_axes(values: Tensor, before: Sequence[str] = (), **labels: tuple[str, ...]) -> Measurement:
    """Values by layer and head, after other axes."""
    return Measurement(values, (*before, "layer", "head"), labels)
