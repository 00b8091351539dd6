"""Asking a model prompts: what it answers, and which of the words that the context offers it holds likeliest.

An answer is right if its first token is the likeliest of all; it is right *among those offered* if it is likelier than
every other word that the context offers, so that a model which names anything but objects is not taken for one that
confuses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.engine.patching import answer, answer_logits
from entitrack.methods.experiment import Experiment, prompt_inputs
from entitrack.models.family import Model
from entitrack.tasks.encoding import first_tokens
from entitrack.tasks.protocol import Prompt


@dataclass(frozen=True)
class Asked:
    """What a model answers.

    Attributes:
        prediction: The likeliest token.
        probability: Of the right answer.
        answers: The right answer's token.
        tokens: Tokens of the right answer and of its alternatives; the right one again where a context offers fewer.
            None where the prompts offer no others.
        logits: Of these.
    """

    prediction: Int[Tensor, " prompt"]
    probability: Float[Tensor, " prompt"]
    answers: Int[Tensor, " prompt"]
    tokens: Int[Tensor, "prompt offered"] | None = field(repr=False)
    logits: Float[Tensor, "prompt offered"] | None = field(repr=False)

    @property
    def correct(self) -> Bool[Tensor, " prompt"]:
        """Whether the answer is right."""
        return self.prediction == self.answers

    @property
    def correct_among(self) -> Bool[Tensor, " prompt"] | None:
        """Whether it is right among those offered; None where no others are. A tie is not right."""
        if self.tokens is None or self.logits is None:
            return None
        others = self.logits.masked_fill(repeated(self.tokens), -torch.inf)
        return self.logits[:, 0] > others[:, 1:].amax(1)

    @property
    def chance_among(self) -> Float[Tensor, " prompt"] | None:
        """How often a choice at random among those offered is right."""
        return None if self.tokens is None else 1 / (~repeated(self.tokens)).sum(1)


def repeated(tokens: Int[Tensor, "prompt offered"]) -> Bool[Tensor, "prompt offered"]:
    """Which of the tokens only stand in for answers that a context does not offer."""
    again = tokens == tokens[:, :1]
    again[:, 0] = False
    return again


def asking_inputs(experiment: Experiment, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """What sessions take that ask some prompts, by batch; with `rivals` if prompts offer other answers.

    Raises:
        UserError: See `Experiment.encoded`.
    """
    batches = experiment.encoded(prompts)
    inputs: list[dict[str, Any]] = [{"prompts": prompt_inputs(batch)} for batch in batches]
    width = max(len(_alternatives(prompt)) for prompt in prompts)
    if width:
        for part, batch in zip(experiment.by_batch(prompts), inputs, strict=True):
            batch["prompts"]["rivals"] = _rivals(experiment, part, batch["prompts"]["answers"], width)
    return inputs


def ask(experiment: Experiment, model: Model, inputs: Sequence[Mapping[str, Any]], description: str) -> Asked:
    """Ask a model what `asking_inputs` gives, of one task or several: one session a batch."""
    batches = [batch["prompts"] for batch in inputs]
    width = max(_rival_count(batch) for batch in batches)
    if width:
        batches = [{**batch, "rivals": _widened(batch, width)} for batch in batches]
    sessions: list[dict[str, Any]] = [{"prompts": batch} for batch in batches]
    outputs = list(experiment.sessions(model, answer_logits if width else answer, sessions, description))
    prediction, probability = (
        torch.cat([output[name] for output in outputs]) for name in ("prediction", "probability")
    )
    answers = torch.cat([batch["answers"] for batch in batches])
    if not width:
        return Asked(prediction, probability, answers, None, None)
    rivals = torch.cat([batch["rivals"] for batch in batches])
    logits = torch.cat([output["logits"] for output in outputs])
    return Asked(prediction, probability, answers, torch.cat([answers[:, None], rivals], 1), logits)


def _rival_count(batch: Mapping[str, Tensor]) -> int:
    return batch["rivals"].shape[1] if "rivals" in batch else 0


def _widened(batch: Mapping[str, Tensor], width: int) -> Int[Tensor, "prompt rival"]:
    """The rivals of a batch, with the right answer where there are fewer than in another."""
    missing = batch["answers"][:, None].expand(-1, width - _rival_count(batch))
    return torch.cat([batch["rivals"], missing], 1) if "rivals" in batch else missing


def _alternatives(prompt: Prompt) -> Sequence[str]:
    return getattr(prompt, "alternatives", ())


def _rivals(
    experiment: Experiment, prompts: Sequence[Prompt], answers: Int[Tensor, " prompt"], width: int
) -> Int[Tensor, "prompt rival"]:
    """Tokens of the alternatives; the right answer's where there are fewer."""
    rows = answers[:, None].repeat(1, width)
    words = [list(_alternatives(prompt)) for prompt in prompts]
    for row, found in zip(rows, first_tokens(prompts, words, experiment.family.tokenizer), strict=True):
        row[: len(found)] = torch.tensor(found)
    return rows
