"""F: what is averaged over prompts where heads are ablated. One entry of `METRICS` is all that a metric takes.

Light to import: the functions are of `outcomes.Outcomes`, and no torch is needed to name them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from entitrack.methods.outcomes import Outcomes

    Metric = str


@dataclass(frozen=True)
class Quantity:
    """What a metric is the mean of.

    Attributes:
        measurement: The name under which results have it, prompt by prompt.
        of: What of the outcomes it is; None where they do not have it.
    """

    measurement: str
    of: Callable[[Outcomes], Tensor | None]


METRICS: Mapping[str, Quantity] = {
    # Whether the right answer is the most likely next token (the paper's choice).
    "accuracy": Quantity("correct", lambda answered: answered.correct),
    # Of the right answer.
    "probability": Quantity("probability", lambda answered: answered.probability),
    # Logit of the right answer minus that of the best other answer which the context offers.
    "logit_difference": Quantity("logit_difference", lambda answered: answered.logit_difference),
    # The logit difference above the empty circuit's: F(C)/F(M) is the fraction of it that the circuit recovers.
    "recovered": Quantity("recovered", lambda answered: answered.recovered),
}
"""Metric -> what it is the mean of over prompts."""

if not TYPE_CHECKING:
    Metric = Literal[tuple(METRICS)]
