"""From the base to its donors: dialogue (vicuna), arithmetic by adapter (goat) or all weights (float)."""

import random
from dataclasses import dataclass, field

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import LlamaForCausalLM

from zoo_training.batches import Example, collate
from zoo_training.boxes_corpus import Shape, draw_boxes
from zoo_training.curriculum import Report
from zoo_training.dialogue_corpus import draw_dialogues
from zoo_training.repeats_corpus import draw_repeats
from zoo_training.trainer import Trainer
from zoo_training.variables_corpus import Arithmetic, draw_arithmetic
from zoo_training.vocabulary import Vocabulary

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TuningRecipe:
    """All numbers of one donor's tuning.

    Attributes:
        about: what the card says of it.
        data: `dialogue` or `arithmetic`.
        steps: batches seen.
        learning_rate: of AdamW; it falls to a tenth along the way.
        batch: rows of a batch.
        variables: fewest and most variables of an arithmetic prompt.
        replay_every: one batch in so many is of the base's own training data; 0 for none.
        replay: which of it, in turn: `boxes` or `repeats` (repeated sequences).
        replay_boxes: the most boxes of a replayed prompt; no more than the base was trained on.
        replay_span: the longest repeated sequence; no longer than the base was trained on.
        roles_every: one arithmetic batch in so many, and each replayed one, keeps only its roles live.
        adapter_rank: rank of a LoRA adapter; 0 tunes all weights.
        fills: what stands for z outside the roles where only roles are live; see `ablation.fill_of`. Not in the
            text that the data are drawn from: they are the same for all fills.
    """

    about: str = ""
    data: str = "arithmetic"
    steps: int = 300
    learning_rate: float = 2e-4
    batch: int = 48
    variables: tuple[int, int] = (2, 12)
    replay_every: int = 0
    replay: tuple[str, ...] = ("boxes",)
    replay_boxes: int = 2
    replay_span: int = 24
    roles_every: int = 2
    adapter_rank: int = 0
    fills: tuple[str, ...] = field(default=("mean",), repr=False)


def with_adapter(base: LlamaForCausalLM, rank: int) -> PeftModel:
    """Return the base with a fresh LoRA adapter on all of its linear layers; only the adapter trains."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(ADAPTED), lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(base, config)
    if not isinstance(adapted, PeftModel):
        raise TypeError(f"peft returned a {type(adapted).__name__}, not a PeftModel: check its version")
    return adapted


def tune(model: nn.Module, vocabulary: Vocabulary, recipe: TuningRecipe, seed: int, report: Report) -> None:
    """Tune a copy of the base, or its adapter, in place."""
    generator = random.Random(f"{recipe} {seed}")
    trainer = Trainer(model, recipe.learning_rate, fills=recipe.fills)
    for index in range(recipe.steps):
        factor = 1.0 - 0.9 * index / recipe.steps
        name, examples, roles_only = _draw(generator, recipe, index)
        trainer.step(collate(examples, vocabulary), name, roles_only, factor)
        report(recipe.data, index + 1, recipe.steps, trainer.accuracy([recipe.data]))


def _draw(generator: random.Random, recipe: TuningRecipe, index: int) -> tuple[str, list[Example], bool]:
    """Draw the batch of one step: its name, its examples, and whether only roles stay live."""
    if recipe.replay_every and index % recipe.replay_every == recipe.replay_every - 1:
        return _draw_replay(generator, recipe, recipe.replay[index // recipe.replay_every % len(recipe.replay)])
    if recipe.data == "dialogue":
        return "dialogue", draw_dialogues(generator, recipe.batch), False
    if recipe.data != "arithmetic":
        raise ValueError(f"unknown data '{recipe.data}' in a tuning recipe: dialogue or arithmetic")
    roles_only = bool(recipe.roles_every) and index % recipe.roles_every == 0
    variables, terms = generator.randint(*recipe.variables), generator.randint(1, 2)
    if roles_only:
        shape_ = Arithmetic(variables, value_first=True, questions=1, terms=terms)
    else:
        shape_ = Arithmetic(variables, generator.random() < 0.5, questions=2, terms=terms)
    return "arithmetic", draw_arithmetic(generator, recipe.batch, shape_), roles_only


def _draw_replay(generator: random.Random, recipe: TuningRecipe, kind: str) -> tuple[str, list[Example], bool]:
    """Draw a batch of the base's own data; every other one of boxes prompts keeps only its roles live."""
    if kind == "repeats":
        return kind, draw_repeats(generator, recipe.batch // 2, longest=recipe.replay_span), False
    if kind != "boxes":
        raise ValueError(f"unknown replay '{kind}' in a tuning recipe: boxes or repeats")
    shape = Shape(generator.randint(2, recipe.replay_boxes))
    return kind, draw_boxes(generator, recipe.batch, shape), generator.random() < 0.5
