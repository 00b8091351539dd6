"""What may be chosen where heads are ablated: what they give instead, what is measured, which procedure is followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from entitrack.core.settings import MethodSettings

Ablation = Literal["mean", "zero", "resample"]
"""What a head that is ablated gives instead of its z.

- mean: its mean over prompts with random content, at the same token index (the paper's choice).
- zero: nothing.
- resample: what it gives in another prompt with random content, one for each prompt, at the same token index.
"""

Metric = Literal["accuracy", "probability", "logit_difference", "recovered"]
"""F: what is averaged over prompts.

- accuracy: whether the right answer is the most likely next token (the paper's choice).
- probability: of the right answer.
- logit_difference: logit of the right answer minus that of the best other answer which the context offers.
- recovered: the logit difference above the empty circuit's: F(C)/F(M) is the fraction of it that the circuit recovers.
"""

Compat = Literal["default", "paper"]
"""Which procedure is followed: the paper's text, or the published code with its quirks."""


class AblationSettings(MethodSettings):
    """What every method that ablates may be told."""

    ablation: Ablation = Field("mean", description="what ablated heads give: mean, zero or resample")
    metric: Metric = Field("accuracy", description="what F is: accuracy, probability, logit_difference or recovered")
    mean_count: int = Field(504, ge=1, le=100_000, description="prompts with random content that means are taken over")
    circuits_per_session: int = Field(1024, ge=1, le=1_000_000, description="at most this many circuits in one session")
    chunk_tokens: int = Field(8192, ge=1, le=2**27, description="at most this many tokens go through the model at once")
