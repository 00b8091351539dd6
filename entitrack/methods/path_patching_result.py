"""What path patching finds: scores, how firm they are, and a circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from entitrack.circuits import Circuit
from entitrack.core.table import Table
from entitrack.methods.selection import Selection
from entitrack.methods.stages import Stage
from entitrack.models.anatomy import Head


@dataclass(frozen=True)
class StageResult:
    """What one stage found.

    Attributes:
        stage: The stage.
        effects: Effect of each head per prompt; NaN for heads that were not scored.
        errors: Standard error of each score over contexts.
        noise: Mean size of the effect of a sender that is left alone: the arithmetic's own noise.
        selection: The heads chosen.
        peak_bytes: Memory of the largest piece that went through the model.
        verified: Largest difference from the naive way, and how many senders were compared; None if none was.
    """

    stage: Stage
    effects: Float[Tensor, "prompt layer head"] = field(repr=False)
    errors: Float[Tensor, "layer head"] = field(repr=False)
    noise: float
    selection: Selection
    peak_bytes: int
    verified: tuple[float, int] | None = None

    @property
    def scores(self) -> Float[Tensor, "layer head"]:
        """Mean effect of each head on the probability of the right answer; most negative = most important."""
        return self.effects.mean(0)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads chosen, most important first."""
        return self.selection.heads


@dataclass(frozen=True)
class PathPatchingResult:
    """A circuit, and the scores it was chosen by."""

    model: str
    prompts: int
    stages: tuple[StageResult, ...]
    skipped: Mapping[str, str]
    circuit: Circuit
    naive: bool = False

    @property
    def tables(self) -> Sequence[Table]:
        """The chosen heads group by group, and the stages."""
        rows = []
        for found in self.stages:
            for rank, (layer, head) in enumerate(found.heads, start=1):
                score, error = float(found.scores[layer, head]), float(found.errors[layer, head])
                rows.append((found.stage.name, found.stage.role, rank, f"{layer}.{head}", score, error))
        columns = ("group", "role", "rank", "layer.head", "score", "standard error")
        return (Table(f"Circuit of {self.model} by path patching", columns, tuple(rows)), self._stages())

    def _stages(self) -> Table:
        rows = tuple(
            (
                found.stage.name,
                int((~found.scores.isnan()).sum()),
                len(found.heads),
                f"{found.noise:.1e}",
                f"{found.selection.overlap:.2f}",
                f"{found.peak_bytes / 2**20:.0f} MiB",
                f"{found.verified[0]:.1e} ({found.verified[1]} heads)" if found.verified else "",
            )
            for found in self.stages
        )
        columns = ("stage", "scored", "chosen", "noise", "rank overlap", "largest piece", "from naive")
        return Table("Stages", columns, rows)

    @property
    def notes(self) -> Sequence[str]:
        """How to read the tables, and which groups are empty and why."""
        empty = [
            f"group {found.stage.name} is empty: no head's score is below zero by the noise and its sampling error"
            for found in self.stages
            if not found.heads
        ]
        skipped = [f"group {name} is empty: {why}" for name, why in self.skipped.items()]
        slow = ["warning: scored the naive way, two forward passes a head: the layers are not described in full"]
        return (
            *(slow if self.naive else ()),
            "score: mean of (p_patched - p_clean) / p_clean of the right answer; most negative = most important;"
            f" over {self.prompts} prompts",
            "noise: mean size of the same for a head that is left alone; errors are over contexts",
            "a head is chosen only if its score is below zero by the noise and its sampling error",
            "rank overlap: share of the chosen number of lowest scores that stays when contexts are resampled",
            *empty,
            *skipped,
        )

    @property
    def arrays(self) -> dict[str, Tensor]:
        """Scores, standard errors and effects per prompt, by stage."""
        named = {}
        for found in self.stages:
            named[f"{found.stage.name}.scores"] = found.scores
            named[f"{found.stage.name}.errors"] = found.errors
            named[f"{found.stage.name}.effects"] = found.effects
        return named
