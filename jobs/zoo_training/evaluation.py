"""How well a model tracks boxes and does arithmetic, and whether the three roles suffice."""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from entitrack.tasks.boxes import Boxes, BoxesPrompt
from entitrack.tasks.boxes.vocabulary import LABELS
from zoo_training.ablation import record_z
from zoo_training.batches import collate
from zoo_training.variables_corpus import Arithmetic, draw_arithmetic
from zoo_training.vocabulary import Vocabulary

NORMAL_95 = 1.96
ROWS = 210
ROLES_IN_TEXT = ("query_label", "prev_query_label")


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % Wilson interval.

    Attributes:
        accuracy: right answers per prompt.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of prompts.
    """

    accuracy: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, right: Bool[Tensor, " prompt"]) -> "Share":
        """Count right answers; prompts are taken as independent."""
        n, share = len(right), right.float().mean().item()
        scale = 1 + NORMAL_95**2 / n
        centre = (share + NORMAL_95**2 / (2 * n)) / scale
        half = NORMAL_95 * sqrt(share * (1 - share) / n + NORMAL_95**2 / (4 * n * n)) / scale
        return cls(round(share, 4), round(centre - half, 4), round(centre + half, 4), n)


@dataclass(frozen=True)
class EncodedPrompts:
    """Boxes prompts as tensors; all have one length.

    Attributes:
        tokens: token ids.
        answers: token id of each prompt's answer.
        roles: positions of last, query_label and prev_query_label.
        clusters: number of each prompt's context.
    """

    tokens: Int[Tensor, "prompt position"]
    answers: Int[Tensor, " prompt"]
    roles: Int[Tensor, "prompt role"]
    clusters: Int[Tensor, " prompt"]

    def rows(self, index: Int[Tensor, " row"]) -> "EncodedPrompts":
        """Return some of the prompts."""
        return EncodedPrompts(self.tokens[index], self.answers[index], self.roles[index], self.clusters[index])


Intervention = Callable[[EncodedPrompts], AbstractContextManager[None]]
"""Opens a change of the model for one batch of prompts."""


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[BoxesPrompt]) -> EncodedPrompts:
    """Tokenize prompts and find their roles from the tokenizer's offsets."""
    encoded = tokenizer([prompt.text for prompt in prompts], return_offsets_mapping=True)
    answers = [tokenizer.convert_tokens_to_ids(prompt.answer) for prompt in prompts]
    roles = []
    for prompt, offsets in zip(prompts, encoded["offset_mapping"], strict=True):
        starts = [start if end > start else -1 for start, end in offsets]
        found = [starts.index(prompt.spans[name][0]) for name in ROLES_IN_TEXT]
        roles.append([len(starts) - 1, *found])
    clusters = [prompt.cluster for prompt in prompts]
    columns = (encoded["input_ids"], answers, roles, clusters)
    return EncodedPrompts(*(torch.tensor(column) for column in columns))


@torch.no_grad()
def right_answers(
    model: nn.Module, prompts: EncodedPrompts, intervention: Intervention | None = None
) -> Bool[Tensor, " prompt"]:
    """Return which prompts the model answers rightly, optionally under an intervention."""
    model.eval()
    right = []
    for index in torch.arange(len(prompts.tokens)).split(ROWS):
        batch = prompts.rows(index)
        with nullcontext() if intervention is None else intervention(batch):
            logits = model(batch.tokens, use_cache=False, logits_to_keep=1).logits[:, -1]
        right.append(logits.argmax(-1) == batch.answers)
    return torch.cat(right)


def background_z(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, boxes: int = 7, count: int = 490, seed: int = 1
) -> Float[Tensor, "layer row position width"]:
    """Return z of training-split prompts with random objects and labels and any query letter."""
    generator = random.Random(f"ablation mean {seed}")
    prompts = Boxes(count=count, boxes=boxes, seed=seed, split="train").prompts()
    texts = [f"{prompt.context.text}. Box {generator.choice(LABELS)} contains the" for prompt in prompts]
    model.eval()
    return record_z(model, torch.tensor(tokenizer(texts)["input_ids"]))


@torch.no_grad()
def arithmetic_right(model: nn.Module, variables: int, count: int = 500, seed: int = 0) -> Bool[Tensor, " prompt"]:
    """Return which sums and differences of two of the variables are right; half the prompts in each form."""
    model.eval()
    generator, vocabulary, right = random.Random(f"arithmetic test {seed}"), Vocabulary(), []
    for value_first in (False, True):
        shape = Arithmetic(variables, value_first, questions=1, terms=2)
        batch = collate(draw_arithmetic(generator, count // 2, shape), vocabulary)
        logits = model(batch.tokens[:, :-1], use_cache=False).logits
        right.append((logits.argmax(-1) == batch.tokens[:, 1:])[batch.answers[:, 1:]])
    return torch.cat(right)


def paired_gain(
    donor: Bool[Tensor, " prompt"], base: Bool[Tensor, " prompt"], clusters: Int[Tensor, " prompt"]
) -> dict[str, float]:
    """Return the donor's accuracy minus the base's on the same prompts, with a 95 % interval.

    The questions of a context are not independent: the interval comes from the spread between contexts.
    """
    difference = donor.float() - base.float()
    per_context = torch.stack([difference[clusters == cluster].mean() for cluster in clusters.unique()])
    half = NORMAL_95 * (per_context.std() / sqrt(len(per_context))).item()
    mean = per_context.mean().item()
    return {"gain": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}
