"""Everything the card says about one trained model."""

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from entitrack.tasks.boxes import Boxes
from zoo_training.ablation import (
    FILLS,
    Change,
    fill_of,
    fill_with_mean,
    fill_with_rows,
    only_roles_live,
    record_z,
    transplanted_last,
)
from zoo_training.curriculum import HEAD_DIM
from zoo_training.evaluation import (
    EncodedPrompts,
    Share,
    arithmetic_right,
    background_z,
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
        mean_prompts: prompts that ablated heads take their z from.
        fills: what stands for z outside the roles, in turn: `mean`, `zero` or `resample`.
        seed: of all test prompts.
    """

    boxes: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
    prompts: int = 2800
    shorter_prompts: int = 840
    variables: tuple[int, ...] = (2, 3, 6, 9, 12)
    arithmetic_prompts: int = 500
    mean_prompts: int = 490
    fills: tuple[str, ...] = FILLS
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
        "role_sufficiency": role_sufficiency(model, tokenizer, prompts[longest], recipe),
    }
    if base is None:
        record["live_heads"] = live_heads(model)
    else:
        test = prompts[longest]
        base_right = right_answers(base, test)
        moved = right_answers(base, test, lambda batch: transplanted_last(base, record_z(model, batch.tokens)))
        record["gain"] = paired_gain(right[longest], base_right, test.clusters)
        record["transplanted_last"] = asdict(Share.of(moved))
        record["transplanted_last_gain"] = paired_gain(moved, base_right, test.clusters)
    return record


def role_sufficiency(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: EncodedPrompts, recipe: MeasurementRecipe
) -> dict[str, dict[str, float]]:
    """Return, by what stands for z outside the roles, the accuracy with the roles alone, whole, and their ratio."""
    background = background_z(model, tokenizer, recipe.boxes[-1], recipe.mean_prompts)
    whole = right_answers(model, prompts).float().mean().item()
    found = {}
    for kind in recipe.fills:
        fill = _fill(kind, background)
        right = right_answers(model, prompts, partial(_roles_only, model, fill))
        only = right.float().mean().item()
        ratio = only / whole if whole else 0.0
        found[kind] = {"roles_only": round(only, 4), "whole": round(whole, 4), "ratio": round(ratio, 4)}
    return found


def _roles_only(model: nn.Module, fill: Change, batch: EncodedPrompts) -> AbstractContextManager[None]:
    return only_roles_live(model, batch.roles, fill)


def live_heads(model: nn.Module) -> list[list[int]]:
    """Return the heads whose output the model reads: those with columns of `o_proj` that are not all 0."""
    projections = [module for name, module in model.named_modules() if name.endswith("self_attn.o_proj")]
    width = HEAD_DIM
    by_layer = [projection.weight.unflatten(1, (-1, width)).abs().sum((0, 2)) for projection in projections]
    return [[layer, head] for layer, sizes in enumerate(by_layer) for head, size in enumerate(sizes.tolist()) if size]


def _fill(kind: str, background: Float[Tensor, "layer row position width"]) -> Change:
    """Return what stands for z outside the roles in a measurement: of other prompts than those that are answered."""
    if kind == "mean":
        return fill_with_mean(background.mean(1))
    return fill_with_rows(background) if kind == "resample" else fill_of(kind)
