"""What is answered, prompt by prompt, and what F is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.methods.metrics import METRICS, Metric

MEASURED_AS: Mapping[Metric, str] = {name: quantity.measurement for name, quantity in METRICS.items()}
"""Metric -> the measurement whose mean over prompts it is."""


@dataclass(frozen=True)
class Outcomes:
    """What circuits, or a model that is interfered with, answer.

    Attributes:
        prediction: The most likely token.
        correct: Whether that is the right answer.
        probability: Of the right answer.
        logit_difference: Its logit minus the best other answer's.
        recovered: The logit difference minus the empty circuit's; None where nothing is ablated.
    """

    prediction: Int[Tensor, "*case prompt"]
    correct: Bool[Tensor, "*case prompt"]
    probability: Float[Tensor, "*case prompt"]
    logit_difference: Float[Tensor, "*case prompt"]
    recovered: Float[Tensor, "*case prompt"] | None = None

    @staticmethod
    def of(session: Mapping[str, Tensor], answers: Int[Tensor, " prompt"]) -> Outcomes:
        """What sessions returned (`prediction`, `probability`, `margin`), held against the right answers."""
        prediction = session["prediction"]
        return Outcomes(prediction, prediction == answers, session["probability"], session["margin"])

    def above(self, empty: Float[Tensor, " prompt"]) -> Outcomes:
        """With what is recovered; `empty` is the logit difference of the empty circuit."""
        return replace(self, recovered=self.logit_difference - empty)

    def __getitem__(self, index: int | slice | Tensor) -> Outcomes:
        """Some of them, along the first axis."""
        return _combined([self], lambda parts: parts[0][index])

    def unflattened(self, *sizes: int) -> Outcomes:
        """The first axis as several, of these sizes."""
        return _combined([self], lambda parts: parts[0].unflatten(0, sizes))

    @staticmethod
    def stacked(parts: Sequence[Outcomes]) -> Outcomes:
        """Along a new first axis."""
        return _combined(parts, torch.stack)

    @staticmethod
    def joined(parts: Sequence[Outcomes], axis: int = 0) -> Outcomes:
        """Along an axis that they have."""
        return _combined(parts, lambda tensors: torch.cat(tensors, axis))

    def values(self, metric: Metric) -> Float[Tensor, "*case prompt"]:
        """What F is the mean of."""
        values = METRICS[metric].of(self)
        assert values is not None, f"{metric} is not known here"
        return values.float()

    def measurements(
        self, axes: Sequence[str], labels: Mapping[str, Sequence[str]], prompts: PromptSet, prefix: str = ""
    ) -> dict[str, Measurement]:
        """What is predicted, and each quantity, as measurements; `axes` names those before `prompt`."""
        names = {axis: tuple(entries) for axis, entries in labels.items()}
        measured_here = {quantity.measurement: quantity.of(self) for quantity in METRICS.values()}
        return {
            prefix + name: Measurement(values, (*axes, PROMPT), names, prompts)
            for name, values in {"prediction": self.prediction, **measured_here}.items()
            if values is not None
        }


def _quantities(outcomes: Outcomes) -> dict[str, Tensor]:
    """Name -> values, of those that there are."""
    named = {entry.name: getattr(outcomes, entry.name) for entry in fields(outcomes)}
    return {name: values for name, values in named.items() if values is not None}


def _combined(parts: Sequence[Outcomes], combine: Callable[[list[Tensor]], Tensor]) -> Outcomes:
    by_part = [_quantities(part) for part in parts]
    return Outcomes(**{name: combine([values[name] for values in by_part]) for name in by_part[0]})


def measured(result: Result, prefix: str = "") -> Measurement:
    """The measurement that F of a result is the mean of."""
    return result[prefix + MEASURED_AS[result.facts["metric"]]]
