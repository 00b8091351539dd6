"""What `method=circuit_curve` may be told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from entitrack.methods.ablation_settings import Ablation, CircuitSettings

Order = Literal["alone", "circuit", "greedy"]
"""What comes first.

- alone: the unit without which all others do worst, each removed alone.
- circuit: the circuit's own units, the first of every group, the second of every group, ...; then as in `alone`.
- greedy: the unit that adds most to those that are there; of n units, it takes n * (n + 1) / 2 circuits.
"""


class Settings(CircuitSettings):
    """How good can a circuit of every size be, and how like the model? (CPR and CMD of MIB, Mueller et al. 2025)."""

    needs_circuit: ClassVar[bool] = True

    ablations: list[Ablation] = Field(
        ["mean", "zero", "resample"], min_length=1, description="what ablated heads give, one after another"
    )
    models: list[str] = Field([], description="members of the family to run circuits on; empty: all")
    order: Order = Field(
        "alone",
        description="which heads come first. alone: those whose removal costs most; circuit: the circuit's, then the"
        " same; greedy: each that adds most to those before it",
    )
    order_prompts: int | None = Field(
        168, ge=1, description="prompts that the order is made on, the first of the contexts to search on; null: all"
    )
    sizes: list[Annotated[int, Field(ge=0)]] = Field(
        [], description="sizes to run, beside none, the circuit's and all; empty: about 16, closer where small"
    )
    random_orders: int = Field(20, ge=0, le=100_000, description="random orders to compare with; 0: none")
    control_prompts: int | None = Field(
        84, ge=1, description="prompts that random orders are run on, the task's first; null: all"
    )
