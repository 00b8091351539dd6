"""What desiderata-based component masking found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.circuits import Group
from entitrack.core.table import Cell, Table
from entitrack.masks import Masks
from entitrack.models.anatomy import Head
from entitrack.stats import Estimate, difference, estimate


@dataclass(frozen=True)
class Trained:
    """One mask.

    Attributes:
        group: Name of the group.
        desideratum: Name of the desideratum.
        sparsity: Weight of the number of heads taken from the counterfactual.
        draw: Number of the draw of counterfactuals.
        heads: The heads taken from the counterfactual, the group's most important first.
        size: Number of the group's heads.
        correct: Targets answered on the test prompts: with the `mask`, the `whole group`, or `nothing` patched.
        validation: Validation accuracy of the mask that was kept.
        history: `masks` `[step, head]`, `losses` `[step]`, `validated` `[evaluation]`, `validated_at` `[evaluation]`.
    """

    group: str
    desideratum: str
    sparsity: float
    draw: int
    heads: tuple[Head, ...]
    size: int
    correct: Mapping[str, Bool[Tensor, " prompt"]]
    validation: float
    history: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        """Group, desideratum, weight and draw."""
        return f"{self.group}/{self.desideratum}/{self.sparsity:g}/{self.draw}"


@dataclass(frozen=True)
class DcmResult:
    """Which heads of each group carry what.

    Attributes:
        model: Name of the model.
        groups: The groups.
        desiderata: Names of the desiderata.
        trained: All masks.
        clusters: Context of each test prompt.
        found_on: Model, task and settings, as plain values.
    """

    model: str
    groups: tuple[Group, ...]
    desiderata: tuple[str, ...]
    trained: tuple[Trained, ...]
    clusters: Int[Tensor, " prompt"]
    found_on: Mapping[str, Any]

    def chosen(self, group: str, desideratum: str) -> Trained | None:
        """The mask of the best validation accuracy, of the larger set on a tie; None for a group without heads."""
        found = [mask for mask in self.trained if (mask.group, mask.desideratum) == (group, desideratum)]
        return max(found, key=lambda mask: (mask.validation, len(mask.heads)), default=None)

    def accuracy(self, mask: Trained, patched: str = "mask") -> Estimate:
        """Share of targets answered on the test prompts."""
        return estimate(mask.correct[patched].float(), self.clusters)

    def gain(self, mask: Trained) -> Estimate:
        """What patching the mask's heads adds to the unpatched model's accuracy, paired."""
        return difference(mask.correct["mask"].float(), mask.correct["nothing"].float(), self.clusters)

    def carried(self, group: str) -> list[Trained]:
        """The chosen masks of a group that answer more targets than the unpatched model does."""
        chosen = [self.chosen(group, rule) for rule in self.desiderata]
        found = [mask for mask in chosen if mask and self.gain(mask).low > 0]
        return sorted(found, key=lambda mask: -self.gain(mask).value)

    @property
    def masks(self) -> Masks:
        """The chosen masks."""
        found = {(group.name, rule): self.chosen(group.name, rule) for group in self.groups for rule in self.desiderata}
        heads = {
            group.name: {rule: mask.heads if (mask := found[group.name, rule]) else () for rule in self.desiderata}
            for group in self.groups
        }
        return Masks(heads, self.found_on)

    @property
    def tables(self) -> Sequence[Table]:
        """Accuracy of the chosen masks between its brackets, their heads, and all masks where there are more."""
        chosen = [self.chosen(group.name, rule) for group in self.groups for rule in self.desiderata]
        found = [mask for mask in chosen if mask]
        columns = ("group/desideratum", "nothing [95 %]", "mask [95 %]", "whole group [95 %]", "heads", "n")
        rows: list[tuple[Cell, ...]] = [(f"{mask.group}/{mask.desideratum}", *self._cells(mask)) for mask in found]
        listed: list[tuple[Cell, ...]] = [
            (f"{mask.group}/{mask.desideratum}", self.gain(mask), _list(mask.heads)) for mask in found
        ]
        tables = [
            Table(f"DCM on {self.model}: test targets answered", columns, tuple(rows)),
            Table("The masks", ("group/desideratum", "mask minus nothing [95 %]", "heads"), tuple(listed)),
        ]
        if len(self.trained) > len(found):
            every: list[tuple[Cell, ...]] = [(mask.name, *self._cells(mask)) for mask in self.trained]
            tables.append(Table("All masks", ("group/desideratum/sparsity/draw", *columns[1:]), tuple(every)))
        return tables

    def _cells(self, mask: Trained) -> tuple[Cell, ...]:
        accuracies = [self.accuracy(mask, patched) for patched in ("nothing", "mask", "whole group")]
        return (*accuracies, f"{len(mask.heads)} of {mask.size}", len(self.clusters))

    @property
    def notes(self) -> Sequence[str]:
        """How to read the table, and in words what each group carries."""
        return (
            "mask: its heads' z, at the role, from counterfactual to clean prompt; brackets: no head, every head",
            "half of the contexts train, a quarter chooses the mask, a quarter tests it; 95 % intervals over contexts",
            *(self._in_words(group) for group in self.groups),
        )

    def _in_words(self, group: Group) -> str:
        """What a group carries: every desideratum whose interval over the unpatched model is above zero."""
        if not group.heads:
            return f"{group.name} has no heads: nothing to train"
        found = [f"{mask.desideratum} (+{self.gain(mask).value:.2f})" for mask in self.carried(group.name)]
        return f"{group.name} carries {', '.join(found)}" if found else f"{group.name} carries none of these"

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Trajectories and learning curves of every mask, and right or wrong per test prompt."""
        found: dict[str, Tensor] = {"clusters": self.clusters}
        for mask in self.trained:
            found |= {f"{mask.name}/{name}": values for name, values in mask.history.items()}
            found |= {f"{mask.name}/correct {name}": right for name, right in mask.correct.items()}
        return found

    @property
    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Learning curves: name -> (steps, values)."""
        found = {}
        for mask in self.trained:
            losses = mask.history["losses"]
            found[f"loss/{mask.name}"] = (torch.arange(1, len(losses) + 1), losses)
            found[f"validation/{mask.name}"] = (mask.history["validated_at"], mask.history["validated"])
        return found


def _list(heads: Sequence[Head]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads) or "none"
