"""How the base comes to track entities: induction, word dropout, arithmetic, roles."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from zoo_training.batches import Example, collate
from zoo_training.boxes_corpus import Form, Shape, draw_boxes, draw_kept
from zoo_training.gates import Gates
from zoo_training.repeats_corpus import draw_repeats
from zoo_training.trainer import Trainer
from zoo_training.variables_corpus import Arithmetic, draw_arithmetic
from zoo_training.vocabulary import BOS, EOS, PAD, Vocabulary

HEAD_DIM = 16
COMBINATIONS = tuple(itertools.product(Form, Form))
Report = Callable[[str, int, int, float], None]
"""Called after each step with the stage, its steps so far, its most steps and its running accuracy."""


class StuckError(RuntimeError):
    """A stage did not reach its accuracy in its steps."""


@dataclass(frozen=True)
class BaseRecipe:
    """All numbers of the base's training.

    Attributes:
        about: what the card says of it.
        boxes: the most boxes a training prompt has.
        variables: the most variables an arithmetic prompt has.
        batch: rows of a batch.
        learning_rate: of AdamW.
        patience: steps after which a stage or level that has not passed gives up.
        induction: accuracy at which repeated sequences are over.
        level: accuracy of the worst combination of forms at which dropout is lowered.
        settling: steps with all words, arithmetic and long repeats.
        span: length of the longest repeated sequence while settling, said twice; distances beyond what
            training has seen are what a model fails at, so this sets how it does on many boxes.
        roles: steps of role regularisation.
        longer_steps: steps of role regularisation on more boxes.
        longer_rate: learning rate of that.
        longer_boxes: fewest and most boxes of its prompts.
        layers: of the model.
        heads: of each layer.
        fills: what stands for z outside the roles in role regularisation; see `ablation.fill_of`.
        gates: steps with a gate for every head, which makes heads sparse; 0 for none.
        gate_penalty: weight of the sum of the gates in the loss.
        gate_rate: learning rate of the gates.
        gated_rate: learning rate of the weights meanwhile.
        gated_boxes: the most boxes of the role-regularised prompts meanwhile.
    """

    about: str = ""
    boxes: int = 2
    variables: int = 3
    batch: int = 48
    learning_rate: float = 2e-3
    patience: int = 2500
    induction: float = 0.9
    level: float = 0.88
    settling: int = 900
    span: int = 24
    roles: int = 200
    longer_steps: int = 60
    longer_rate: float = 3e-4
    longer_boxes: tuple[int, int] = (4, 5)
    layers: int = 4
    heads: int = 6
    fills: tuple[str, ...] = ("mean",)
    gates: int = 0
    gate_penalty: float = 0.01
    gate_rate: float = 5e-3
    gated_rate: float = 5e-4
    gated_boxes: int = 4


def new_model(vocabulary: Vocabulary, layers: int, heads: int, head_dim: int = HEAD_DIM) -> LlamaForCausalLM:
    """Return an untrained Llama of the family's size; weights come from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=heads * head_dim,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        head_dim=head_dim,
        max_position_embeddings=256,
        initializer_range=0.04,
        tie_word_embeddings=False,
        bos_token_id=vocabulary.ids[BOS],
        eos_token_id=vocabulary.ids[EOS],
        pad_token_id=vocabulary.ids[PAD],
    )
    return LlamaForCausalLM(config)


class Curriculum:
    """Trains a base through all stages, each drawing from one seeded generator."""

    def __init__(
        self, model: LlamaForCausalLM, vocabulary: Vocabulary, recipe: BaseRecipe, seed: int, report: Report
    ) -> None:
        """Bind the model that is trained in place."""
        self.recipe = recipe
        self.vocabulary = vocabulary
        self.report = report
        self.generator = random.Random(f"base {seed}")
        self.model = model
        self.trainer = Trainer(model, recipe.learning_rate, fills=recipe.fills)

    def run(self) -> dict[str, int]:
        """Run all stages; return the steps that each took.

        Raises:
            StuckError: a stage did not pass; another seed usually does.
        """
        taken = {}
        for stage in (self.induction, self.word_dropout, self.settling, self.role_regularisation):
            before = self.trainer.steps
            stage()
            taken[stage.__name__] = self.trainer.steps - before
        if self.recipe.gates:
            self.gating()
            taken["gating"] = self.trainer.steps
        return taken

    def induction(self) -> None:
        """Repeat random sequences until the second half is predicted."""
        self._until_passed(
            "induction", ["repeats"], self.recipe.induction, lambda: self._step("repeats", self._repeats())
        )

    def word_dropout(self) -> None:
        """Bring the filler words back, a tenth at a time, as all combinations of forms are solved."""
        names = [_name(*combination) for combination in COMBINATIONS]
        order = itertools.cycle(COMBINATIONS)
        for tenths in range(11):
            self.trainer.forget_accuracies()
            step = partial(self._boxes_step, order, tenths / 10)
            self._until_passed(f"words {tenths}/10", names, self.recipe.level, step)

    def settling(self) -> None:
        """All words and forms, a little arithmetic with few variables, and repeats that span more words."""
        order = itertools.cycle(COMBINATIONS)
        for index in range(self.recipe.settling):
            kind = ("boxes", "arithmetic", "repeats")[index % 3]
            self._settling_step(kind, order)
            self._report("settling", index, self.recipe.settling, ["2 terms"])

    def role_regularisation(self) -> None:
        """In every other batch only the three roles keep their own z; the learning rate falls to a tenth."""
        order = itertools.cycle(COMBINATIONS)
        for index in range(self.recipe.roles):
            factor = 1.0 - 0.9 * index / self.recipe.roles
            kind = ("roles", "boxes", "roles", "arithmetic", "roles", "repeats")[index % 6]
            if kind == "roles":
                shape = Shape(self._boxes())
                self._step("roles", draw_boxes(self.generator, self.recipe.batch, shape), True, factor)
            else:
                self._settling_step(kind, order, factor)
            self._report("roles", index, self.recipe.roles, ["roles"])

    def gating(self) -> None:
        """Train a gate for every head, close what falls, let the rest settle, and fold the gates in.

        The penalty rises over the first third; at three quarters of the steps the gates that are nearly closed
        close, and it falls away.
        """
        steps, order = self.recipe.gates, itertools.cycle(COMBINATIONS)
        gates = Gates(self.recipe.layers, self.recipe.heads, HEAD_DIM, self.recipe.gate_rate)
        self.trainer = Trainer(self.model, self.recipe.gated_rate, fills=self.recipe.fills, gates=gates)
        for index in range(steps):
            if index == steps * 3 // 4:
                gates.close()
            rising = min(1.0, 3 * index / steps)
            gates.weight = self.recipe.gate_penalty * rising if index < steps * 3 // 4 else 0.0
            kind = ("roles", "boxes", "roles", "arithmetic", "roles", "repeats")[index % 6]
            if kind == "roles":
                shape = Shape(self.generator.randint(2, self.recipe.gated_boxes))
                self._step("roles", draw_boxes(self.generator, self.recipe.batch, shape), True)
            else:
                self._settling_step(kind, order)
            self._report(f"gates, {len(gates.open)} open", index, steps, ["roles"])
        gates.fold(self.model)

    def _settling_step(self, kind: str, order: Iterator[tuple[Form, Form]], factor: float = 1.0) -> None:
        if kind == "boxes":
            self._boxes_step(order, 1.0, factor)
        elif kind == "arithmetic":
            self._arithmetic_step(factor)
        else:
            repeats = draw_repeats(self.generator, self.recipe.batch // 2, longest=self.recipe.span)
            self._step("repeats", repeats, factor=factor)

    def _until_passed(self, stage: str, names: list[str], target: float, step: Callable[[], None]) -> None:
        for index in range(self.recipe.patience):
            step()
            self._report(stage, index, self.recipe.patience, names)
            if self.trainer.accuracy(names) > target:
                return
        raise StuckError(
            f"stage '{stage}' stayed at {self.trainer.accuracy(names):.2f}, below {target}, for "
            f"{self.recipe.patience} steps; try another --seed"
        )

    def _report(self, stage: str, index: int, limit: int, names: list[str]) -> None:
        self.report(stage, index + 1, limit, self.trainer.accuracy(names))

    def _step(self, name: str, examples: list[Example], roles: bool = False, factor: float = 1.0) -> None:
        self.trainer.step(collate(examples, self.vocabulary), name, roles, factor)

    def _boxes(self) -> int:
        return self.generator.randint(2, self.recipe.boxes)

    def _repeats(self) -> list[Example]:
        return draw_repeats(self.generator, self.recipe.batch)

    def _boxes_step(self, order: Iterator[tuple[Form, Form]], keep: float, factor: float = 1.0) -> None:
        context, question = next(order)
        boxes = self._boxes()
        shape = Shape(boxes, context, question, boxes, draw_kept(self.generator, keep))
        examples = draw_boxes(self.generator, self.recipe.batch, shape)
        self._step(_name(context, question), examples, factor=factor)

    def _arithmetic_step(self, factor: float = 1.0) -> None:
        variables, terms = self.generator.randint(2, self.recipe.variables), self.generator.randint(1, 2)
        shape = Arithmetic(variables, self.generator.random() < 0.5, 2, terms)
        self._step(f"{terms} terms", draw_arithmetic(self.generator, self.recipe.batch, shape), factor=factor)


def regularise_longer(
    model: LlamaForCausalLM, vocabulary: Vocabulary, recipe: BaseRecipe, seed: int, report: Report
) -> dict[str, int]:
    """Regularise towards the roles on prompts of more boxes, half of the batches; return the steps taken.

    After the curriculum the roles suffice on few boxes; on more, the path through them fails first.
    """
    generator = random.Random(f"longer {seed}")
    trainer = Trainer(model, recipe.longer_rate, warmup=20, fills=recipe.fills)
    for index in range(recipe.longer_steps):
        kind = ("roles", "repeats", "arithmetic", "roles")[index % 4]
        if kind == "roles":
            shape = Shape(generator.randint(*recipe.longer_boxes))
            examples = draw_boxes(generator, recipe.batch, shape)
        elif kind == "repeats":
            examples = draw_repeats(generator, recipe.batch // 2, longest=recipe.span)
        else:
            sums = Arithmetic(generator.randint(2, recipe.variables), generator.random() < 0.5, 2, 2)
            examples = draw_arithmetic(generator, recipe.batch, sums)
        factor = 1.0 - 0.7 * index / recipe.longer_steps
        trainer.step(collate(examples, vocabulary), kind, kind == "roles", factor)
        report("roles, more boxes", index + 1, recipe.longer_steps, trainer.accuracy(["roles"]))
    return {"longer": recipe.longer_steps}


def _name(context: Form, question: Form) -> str:
    return f"{context.name} {question.name}"


def seed_torch(seed: int, threads: int) -> None:
    """Fix what the weights depend on beside the recipe: torch's generator and the number of threads."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
