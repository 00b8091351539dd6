"""What a donor can do beside its base: boxes that neither was tuned on, and the donor's own kind of text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from jaxtyping import Bool
from torch import Tensor

from donor_tuning.batches import collate
from donor_tuning.corpora import draw
from donor_tuning.recipes import Recipe
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.methods.evaluate.method import run
from entitrack.methods.evaluate.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes

HELD_OUT_STEP = 1_000_000
"""Texts of the donor's own kind are drawn for steps from here on, which no tuning reaches."""


@dataclass(frozen=True)
class MeasurementRecipe:
    """How large the measurements are.

    Attributes:
        boxes: Numbers of boxes.
        prompts: Prompts for each of them; every box of a context is asked for.
        phrasings: How they are put into words.
        own: Batches of the donor's own kind of text.
    """

    boxes: tuple[int, ...] = (2, 3, 7)
    prompts: int = 126
    phrasings: tuple[str, ...] = ("object_first", "label_first")
    own: int = 16


class Share(TypedDict):
    """A number with its 95 % interval; None where there are too few contexts for one."""

    value: float
    low: float | None
    high: float | None
    n: int


class Accuracies(TypedDict):
    """Accuracy with one phrasing and number of boxes: the base's, the donor's, and the donor's minus the base's."""

    phrasing: str
    boxes: int
    among: str
    base: Share
    donor: Share
    gain: Share


def accuracies(family: Family, donor: str, recipe: MeasurementRecipe) -> list[Accuracies]:
    """Accuracy on held-out boxes, over the whole vocabulary and among the objects of the context."""
    rows = []
    for phrasing in recipe.phrasings:
        for boxes in recipe.boxes:
            task = Boxes(count=recipe.prompts, boxes=boxes, phrasing=phrasing)
            experiment = Experiment(family, task, Runner(Local()), donor, batch_size=recipe.prompts)
            result = run(experiment, Settings(models=[family.base, donor], logits=True))
            correct = {"the whole vocabulary": result["correct"], "the context's objects": best_of_offered(result)}
            for among, measured in correct.items():
                rows.append(_row(phrasing, boxes, among, measured, family.base, donor))
    return rows


def best_of_offered(result: Result) -> Measurement:
    """Whether the right answer is the likeliest of those that the context offers."""
    logit = result["logit"]
    values = torch.where(logit.values.isnan(), -math.inf, logit.values)
    labels = {"model": logit.names("model")}
    return Measurement(values.argmax(1) == 0, ("model", "prompt"), labels, logit.prompts)


def _row(phrasing: str, boxes: int, among: str, correct: Measurement, base: str, donor: str) -> Accuracies:
    gain = correct.difference({"model": donor}, {"model": base})
    base_share, donor_share = (share(correct.estimate(model=name)) for name in (base, donor))
    return Accuracies(phrasing=phrasing, boxes=boxes, among=among, base=base_share, donor=donor_share, gain=share(gain))


def share(estimate: Estimate) -> Share:
    """An estimate as the card keeps it."""
    ends = [None if math.isnan(end) else round(end, 4) for end in (estimate.low, estimate.high)]
    return Share(value=round(estimate.value, 4), low=ends[0], high=ends[1], n=estimate.n)


@torch.no_grad()
def own_answers(family: Family, names: Sequence[str], recipe: Recipe, batches: int) -> Mapping[str, float]:
    """Share of the answers' tokens in new texts of the donor's kind that each model gives after the true ones."""
    found = {}
    for name in names:
        model = family.load(name)
        right = [
            _right(model.envoy._module, collate(draw(recipe, HELD_OUT_STEP + step), model.envoy.tokenizer))
            for step in range(batches)
        ]
        found[name] = round(torch.cat(right).float().mean().item(), 4)
    return found


def _right(module: Any, batch: Any) -> Bool[Tensor, " answer"]:
    """Which answer tokens a module gives."""
    logits = module(input_ids=batch.tokens, attention_mask=batch.real.long(), use_cache=False).logits[:, :-1]
    asked = batch.answers[:, 1:]
    return logits.argmax(-1)[asked] == batch.tokens[:, 1:][asked]
