"""Everything the card says about one trained model."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from entitrack.tasks.boxes import Boxes
from zoo_training.ablation import only_roles_live, record_z, transplanted_last
from zoo_training.evaluation import (
    EncodedPrompts,
    Share,
    ablation_mean,
    arithmetic_right,
    encode_prompts,
    paired_gain,
    right_answers,
)


@dataclass(frozen=True)
class MeasurementRecipe:
    """How large the measurements are.

    Attributes:
        boxes: numbers of boxes to measure accuracy at; the last one is also used for all else.
        prompts: prompts for the last number of boxes.
        shorter_prompts: prompts for each other number of boxes.
        variables: numbers of variables to measure arithmetic at.
        arithmetic_prompts: prompts for each number of variables.
        mean_prompts: prompts that mean z is taken over.
        seed: of all test prompts.
    """

    boxes: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
    prompts: int = 2800
    shorter_prompts: int = 840
    variables: tuple[int, ...] = (2, 3, 6, 9, 12)
    arithmetic_prompts: int = 500
    mean_prompts: int = 490
    seed: int = 0

    def test_prompts(self, tokenizer: PreTrainedTokenizerBase, boxes: int) -> EncodedPrompts:
        """Return the held-out prompts with a number of boxes."""
        count = self.prompts if boxes == self.boxes[-1] else self.shorter_prompts
        return encode_prompts(tokenizer, Boxes(count=count, boxes=boxes, seed=self.seed).prompts())


def measure(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, recipe: MeasurementRecipe, base: nn.Module | None
) -> dict[str, Any]:
    """Return accuracies, role sufficiency and, given a base, the gain over it and the transplant's.

    Args:
        model: a base or a donor.
        tokenizer: the family's.
        recipe: sizes and seed.
        base: what a donor is compared with; None for the base itself.
    """
    prompts = {boxes: recipe.test_prompts(tokenizer, boxes) for boxes in recipe.boxes}
    right = {boxes: right_answers(model, encoded) for boxes, encoded in prompts.items()}
    longest = recipe.boxes[-1]
    record: dict[str, Any] = {
        "accuracy": {str(boxes): asdict(Share.of(values)) for boxes, values in right.items()},
        "arithmetic": {
            str(n): asdict(Share.of(arithmetic_right(model, n, recipe.arithmetic_prompts))) for n in recipe.variables
        },
        "role_sufficiency": role_sufficiency(model, tokenizer, prompts[longest], longest, recipe.mean_prompts),
    }
    if base is not None:
        test = prompts[longest]
        base_right = right_answers(base, test)
        moved = right_answers(base, test, lambda batch: transplanted_last(base, record_z(model, batch.tokens)))
        record["gain"] = paired_gain(right[longest], base_right, test.clusters)
        record["transplanted_last"] = asdict(Share.of(moved))
        record["transplanted_last_gain"] = paired_gain(moved, base_right, test.clusters)
    return record


def role_sufficiency(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: EncodedPrompts, boxes: int, mean_prompts: int = 490
) -> dict[str, float]:
    """Return the accuracy with all heads live at the three roles only, whole, and their ratio."""
    mean = ablation_mean(model, tokenizer, boxes, mean_prompts)
    whole = right_answers(model, prompts).float().mean().item()
    roles = right_answers(model, prompts, lambda batch: only_roles_live(model, batch.roles, mean))
    only = roles.float().mean().item()
    ratio = only / whole if whole else 0.0
    return {"roles_only": round(only, 4), "whole": round(whole, 4), "ratio": round(ratio, 4)}
