"""What may be chosen where heads are ablated: what they give instead, and what is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from entitrack.core.settings import MethodSettings
from entitrack.methods.metrics import METRICS, Metric

Ablation = Literal["mean", "zero", "resample"]
"""What a head that is ablated gives instead of its z.

- mean: its mean over prompts with random content, at the same token index (the paper's choice).
- zero: nothing.
- resample: what it gives in another prompt with random content, one for each prompt, at the same token index.
"""


class CircuitSettings(MethodSettings):
    """What every method that runs circuits may be told."""

    metric: Metric = Field("accuracy", description=f"what F is: {', '.join(METRICS)}")
    mean_count: int = Field(504, ge=1, le=100_000, description="prompts with random content that means are taken over")
    circuits_per_session: int = Field(1024, ge=1, le=1_000_000, description="at most this many circuits in one session")


class AblationSettings(CircuitSettings):
    """What every method that runs them under one ablation may be told."""

    ablation: Ablation = Field("mean", description="what ablated heads give: mean, zero or resample")
