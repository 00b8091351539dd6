"""Path patching to first order, and how far to trust it: its ranks against the exact ones (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.engine.attribution import attribution_effects
from entitrack.limits import MethodSettings, limited
from entitrack.methods import path_patching
from entitrack.methods.experiment import Experiment, Table
from entitrack.methods.selection import Choice
from entitrack.methods.stages import Stage, stage_batches

_LISTED = 5


@dataclass
class Settings(MethodSettings):
    """Settings of `method=attribution`.

    Attributes:
        model: Member of the family; empty takes the base.
        prompts: See `path_patching.Settings`.
        stages: The stages, see there. The receivers are those that exact path patching finds.
        top: Size of the sets of lowest scores that are compared.
        memory: Memory of exact path patching, see there.
    """

    model: str = ""
    prompts: str = "right"
    stages: list[Stage] = field(default_factory=list)
    top: int = limited(5, least=1)
    memory: str = "auto"


@dataclass(frozen=True)
class Compared:
    """First-order and exact scores of one stage.

    Attributes:
        stage: Name of the stage.
        approximate: First-order score of each head.
        exact: Exact score of each head.
        seconds: Seconds that the first-order scores took, forward and backward passes together.
    """

    stage: str
    approximate: Float[Tensor, "layer head"]
    exact: Float[Tensor, "layer head"]
    seconds: float

    @property
    def correlation(self) -> float:
        """Spearman's rank correlation, over heads that a path leads from."""
        reached = self.exact.flatten() != 0
        if reached.sum() < 2:
            return float("nan")
        ranks = torch.stack([ranked(values.flatten()[reached]) for values in (self.approximate, self.exact)])
        return float(torch.corrcoef(ranks)[0, 1])

    def overlap(self, top: int) -> float:
        """Share of the exact `top` lowest scores that are among the first-order ones."""
        if not (self.exact != 0).any():
            return float("nan")
        lowest = [set(values.flatten().argsort()[:top].tolist()) for values in (self.approximate, self.exact)]
        return len(lowest[0] & lowest[1]) / top


def ranked(values: Float[Tensor, " head"]) -> Float[Tensor, " head"]:
    """Ranks from 0, ties by their average."""
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return (below + (equal - 1) / 2).double()


@dataclass(frozen=True)
class AttributionResult:
    """First-order against exact scores, stage by stage."""

    model: str
    prompts: int
    top: int
    stages: tuple[Compared, ...]

    @property
    def tables(self) -> Sequence[Table]:
        """Agreement stage by stage, and the heads that come first."""
        rows = tuple((found.stage, found.correlation, found.overlap(self.top), found.seconds) for found in self.stages)
        columns = ("stage", "rank correlation", f"overlap of top {self.top}", "seconds")
        title = f"Path patching of {self.model} to first order, against exact scores"
        return (Table(title, columns, rows), self._heads())

    def _heads(self) -> Table:
        rows = []
        for found in self.stages:
            for index in found.exact.flatten().argsort()[:_LISTED].tolist():
                layer, head = divmod(index, found.exact.shape[1])
                scores = (float(found.approximate[layer, head]), float(found.exact[layer, head]))
                rows.append((found.stage, f"{layer}.{head}", *scores))
        return Table("Lowest exact scores", ("stage", "layer.head", "first order", "exact"), tuple(rows))

    @property
    def notes(self) -> Sequence[str]:
        """What was computed."""
        return (
            f"over {self.prompts} prompts; nan: no path leads from any head",
            "first order: slope of log p along the change of z, attention frozen as in path patching",
            "it takes two forward passes and one backward pass a batch, whatever the number of heads",
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Both scores, by stage."""
        both = {f"{found.stage}.first_order": found.approximate for found in self.stages}
        return both | {f"{found.stage}.exact": found.exact for found in self.stages}


def run(experiment: Experiment, settings: Settings) -> AttributionResult:
    """Find the circuit exactly, and score every stage to first order through the same receivers."""
    exact_settings = path_patching.Settings(
        settings.model, settings.prompts, settings.stages, Choice(), settings.memory
    )
    exact = path_patching.run(experiment, exact_settings)
    model = experiment.family.load(settings.model or experiment.family.base, "method.model")
    pairs = path_patching.usable_pairs(experiment, model, settings.prompts)
    heads = {group.name: group.heads for group in exact.circuit.groups}
    compared = []
    for found in exact.stages:
        batches: list[dict[str, Any]] = stage_batches(
            experiment, model, pairs, found.stage, heads.get(found.stage.receivers, ())
        )
        begun = perf_counter()
        outputs = list(experiment.sessions(model, attribution_effects, batches, f"attribution: {found.stage.name}"))
        seconds = perf_counter() - begun
        approximate = torch.cat([output["effect"] for output in outputs]).mean(0)
        compared.append(Compared(found.stage.name, approximate, found.scores, seconds))
    return AttributionResult(model.name, len(pairs), settings.top, tuple(compared))
