"""What may be chosen where heads are ablated: what they give instead, what is measured, which procedure is followed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from entitrack.errors import UserError, quoted
from entitrack.limits import MethodSettings, limited


class Ablation(Enum):
    """What a head that is ablated gives instead of its z."""

    MEAN = "mean"
    """Its mean over prompts with random content, at the same token index (the paper's choice)."""
    ZERO = "zero"
    """Nothing."""
    RESAMPLE = "resample"
    """What it gives in another prompt with random content, one for each prompt, at the same token index."""


class Metric(Enum):
    """What is averaged over prompts."""

    ACCURACY = "accuracy"
    """Whether the right answer is the most likely next token (the paper's choice)."""
    PROBABILITY = "probability"
    """Probability of the right answer."""
    LOGIT_DIFFERENCE = "logit_difference"
    """Logit of the right answer minus that of the best other answer which the context offers."""
    RECOVERED = "recovered"
    """The logit difference above the empty circuit's: F(C)/F(M) is the fraction of it that the circuit recovers."""


class Compat(Enum):
    """Which procedure is followed."""

    DEFAULT = "default"
    """The paper's text."""
    PAPER = "paper"
    """The published code, with its quirks."""


@dataclass
class AblationSettings(MethodSettings):
    """What every method that ablates may be told.

    Attributes:
        ablation: What ablated heads give: `mean`, `zero` or `resample`.
        metric: What F is: `accuracy`, `probability`, `logit_difference` or `recovered`.
        compat: `default`, or `paper` for the published procedure's quirks.
        mean_count: How many prompts with random content the mean is taken over.
        circuits_per_session: At most this many circuits go into one session.
        chunk_tokens: At most this many tokens go through the model at once.
    """

    ablation: str = "mean"
    metric: str = "accuracy"
    compat: str = "default"
    mean_count: int = limited(504, least=1, most=100_000)
    circuits_per_session: int = limited(1024, least=1, most=1000000)
    chunk_tokens: int = limited(8192, least=1, most=134217728)


Choice = TypeVar("Choice", bound=Enum)


def pick(kind: type[Choice], name: str, place: str) -> Choice:
    """The member of an enumeration with that value.

    Raises:
        UserError: There is none; `place` is the config key that named it.
    """
    try:
        return kind(name)
    except ValueError as error:
        raise UserError(
            place, f"unknown {kind.__name__.lower()} {quoted(name)}", [entry.value for entry in kind]
        ) from error


@dataclass(frozen=True)
class Outcomes:
    """What circuits answer.

    Attributes:
        correct: Whether the right answer is the most likely next token.
        probability: Of the right answer.
        margin: Its logit minus the best other answer's.
    """

    correct: Bool[Tensor, "circuit prompt"]
    probability: Float[Tensor, "circuit prompt"]
    margin: Float[Tensor, "circuit prompt"]

    def values(self, metric: Metric, empty: Float[Tensor, " prompt"] | None = None) -> Float[Tensor, "circuit prompt"]:
        """The metric by prompt; `empty` is the margin of the empty circuit, which `recovered` is counted from."""
        if metric is Metric.ACCURACY:
            return self.correct.float()
        if metric is Metric.PROBABILITY:
            return self.probability
        if metric is Metric.LOGIT_DIFFERENCE or empty is None:
            return self.margin
        return self.margin - empty
