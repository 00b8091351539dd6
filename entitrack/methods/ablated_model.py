"""A model that circuits are run on: what ablated heads take, where the roles are, sessions.

1. `prepare` encodes the prompts, orders the roles by position, and computes what ablated heads take.
2. `AblatedModel.answers` runs circuits: every head is ablated but theirs, at their roles.
3. `AblatedModel.without` runs the model with heads ablated at their roles alone; `intact` as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.errors import UserError
from entitrack.engine.ablation import model_without, total_z
from entitrack.engine.circuits import circuit_answers
from entitrack.methods.ablation_settings import Ablation, CircuitSettings
from entitrack.methods.experiment import Experiment, question_inputs, role_positions
from entitrack.methods.outcomes import Outcomes
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import LAST, Prompt

Heads = Bool[Tensor, "role layer head"]
Circuits = Bool[Tensor, "circuit role layer head"]


@dataclass(frozen=True)
class AblatedModel:
    """A model and the prompts of a task, ready to run circuits on.

    Attributes:
        experiment: Models, task and the place to run.
        model: The model.
        roles: The roles that circuits have heads at, in the order of their positions; the last is `last`.
        settings: How circuits are run.
        inputs: For each batch of prompts, what its sessions take: `prompts`, `positions` of the roles, `fill`.
        answers: Token id of the right answer, per prompt.
    """

    experiment: Experiment
    model: Model
    roles: tuple[str, ...]
    settings: CircuitSettings
    inputs: tuple[dict[str, Any], ...] = field(repr=False)
    answers: Int[Tensor, " prompt"] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Roles, layers, heads."""
        return (len(self.roles), self.model.anatomy["n_layers"], self.model.anatomy["n_heads"])

    @property
    def last(self) -> Int[Tensor, " prompt"]:
        """Position of the last token of each prompt."""
        return torch.cat([batch["prompts"]["last"] for batch in self.inputs])

    def first(self, count: int) -> AblatedModel:
        """The same on the first prompts, whose ablated heads take what they take among all."""
        inputs, answers, left = [], self.answers[:count], count
        for batch in self.inputs:
            if left > 0:
                inputs.append(_first_rows(batch, left))
            left -= len(batch["positions"])
        return replace(self, inputs=tuple(inputs), answers=answers)

    def live(self, groups: Iterable[Group]) -> Heads:
        """The heads of groups, each at its group's role."""
        heads = torch.zeros(self.shape, dtype=torch.bool)
        for group in groups:
            for layer, head in group.heads:
                heads[self.roles.index(group.role), layer, head] = True
        return heads

    def run(self, circuits: Circuits, reference: Heads | None = None) -> Outcomes:
        """What circuits answer, `[circuit, prompt]`; equal circuits are run once.

        Args:
            circuits: Live heads of each.
            reference: A circuit that most of them differ little from, which saves work; results do not depend on it.
        """
        unique, place = circuits.flatten(1).unique(dim=0, return_inverse=True)
        reference = torch.zeros(self.shape, dtype=torch.bool) if reference is None else reference
        budget = {"gib": self.experiment.gib}
        inputs = {"circuits": unique.reshape(-1, *self.shape), "reference": reference}
        return self._sessions(circuit_answers, inputs, "circuits", budget)[place]

    def without(self, removed: Circuits) -> Outcomes:
        """What the whole model answers when heads are ablated at their roles only, `[circuit, prompt]`."""
        unique, place = removed.flatten(1).unique(dim=0, return_inverse=True)
        return self._sessions(model_without, {"removed": unique.reshape(-1, *self.shape)}, "removed", {})[place]

    def intact(self) -> Outcomes:
        """What the model itself answers, `[prompt]`."""
        return self.without(torch.zeros(1, *self.shape, dtype=torch.bool))[0]

    def _sessions(self, function: Any, inputs: dict[str, Any], name: str, settings: dict[str, Any]) -> Outcomes:
        """A session for each piece of the input called `name` and each batch of prompts."""
        pieces = inputs[name].split(self.settings.circuits_per_session)
        requests = [{**batch, **inputs, name: piece} for piece in pieces for batch in self.inputs]
        label = f"{name}: {self.model.name}"
        answered = list(self.experiment.sessions(self.model, function, requests, label, settings=settings))
        width = len(self.inputs)
        by_piece = [answered[start : start + width] for start in range(0, len(answered), width)]
        return Outcomes.joined([Outcomes.of(joined_batches(piece), self.answers) for piece in by_piece])


def _first_rows(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """The first prompts of a batch; a fill by prompt goes with them, one for all prompts stays."""
    fill, prompts = batch["fill"], batch["prompts"]
    return {
        "prompts": {name: values[:count] for name, values in prompts.items()},
        "positions": batch["positions"][:count],
        "fill": fill if "values" in fill else {name: values[:count] for name, values in fill.items()},
    }


def joined_batches(answered: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What the sessions of all batches returned, as of one; prompts are the last axis."""
    return {name: torch.cat([batch[name] for batch in answered], -1) for name in answered[0]}


def prepare(
    experiment: Experiment,
    model: Model,
    roles: Sequence[str],
    settings: CircuitSettings,
    prompts: Sequence[Prompt],
    ablation: Ablation,
) -> AblatedModel:
    """Encode the prompts, find the roles' order, and compute what ablated heads take.

    Raises:
        UserError: Prompts differ in length, or roles in their order.
    """
    batches = experiment.encoded(prompts)
    length = one_length(batches, "task")
    ordered = order_roles(batches, roles)
    fills = _fills(experiment, model, settings.mean_count, ablation, batches, length)
    inputs = []
    for part, batch, fill in zip(experiment.by_batch(prompts), batches, fills, strict=True):
        positions = torch.stack([role_positions(batch, role, "circuit") for role in ordered], 1)
        inputs.append({"prompts": question_inputs(experiment, part, batch), "positions": positions, "fill": fill})
    answers = torch.cat([batch.answers for batch in batches])
    return AblatedModel(experiment, model, ordered, settings, tuple(inputs), answers)


def one_length(batches: Sequence[EncodedBatch], place: str) -> int:
    """Tokens of a prompt.

    Raises:
        UserError: Prompts differ in length, so a mean at a token index would mix different words.
    """
    lengths = sorted({int(length) for batch in batches for length in batch.mask.sum(1)})
    if len(lengths) > 1:
        problem = (
            f"prompts have {lengths[0]} to {lengths[-1]} tokens; ablation goes by token index and needs one length"
        )
        raise UserError(place, problem, fix="use one number of boxes, and words that the tokenizer does not split")
    return lengths[0]


def order_roles(batches: Sequence[EncodedBatch], roles: Sequence[str]) -> tuple[str, ...]:
    """The roles, `last` included, in the order of their positions.

    Raises:
        UserError: The order is not the same in all prompts, or two roles are one token.
    """
    first = {role: int(role_positions(batches[0], role, "circuit")[0]) for role in (*roles, LAST)}
    ordered = tuple(sorted(first, key=lambda role: first[role]))
    for batch in batches:
        positions = torch.stack([batch.positions[role] for role in ordered], 1)
        if not bool((positions.diff(dim=1) > 0).all()):
            raise UserError("circuit", f"roles {', '.join(ordered)} do not stand in one order in all prompts")
    return ordered


def _fills(
    experiment: Experiment,
    model: Model,
    mean_count: int,
    ablation: Ablation,
    batches: Sequence[EncodedBatch],
    length: int,
) -> list[dict[str, Tensor]]:
    """What ablated heads take, for each batch of prompts."""
    if ablation == "resample":
        others = background_batches(experiment, sum(len(batch) for batch in batches), length)
        return [{"tokens": other.tokens, "mask": other.mask} for other in others]
    if ablation == "mean":
        values = mean_z(experiment, model, mean_count, length)
        return [{"values": values}] * len(batches)
    width = model.anatomy["n_heads"] * model.anatomy["d_head"]
    return [{"values": torch.zeros(model.anatomy["n_layers"], length, width)}] * len(batches)


def mean_z(experiment: Experiment, model: Model, count: int, length: int) -> Float[Tensor, "layer token width"]:
    """Mean z of every head at every token index, over prompts with random content (paper, section 4.2).

    It depends on the model and the task alone, so every method finds it in the store once one has computed it.
    """
    batches = background_batches(experiment, count, length)
    inputs = [{"prompts": {"tokens": batch.tokens, "mask": batch.mask}} for batch in batches]
    total = torch.zeros(())
    for output in experiment.sessions(model, total_z, inputs, f"mean activations: {model.name}"):
        total = total + output["total"].double()
    return (total / count).float()


def background_batches(experiment: Experiment, count: int, length: int) -> list[EncodedBatch]:
    """Prompts with random content, of the clean prompts' length.

    Raises:
        UserError: They have another length.
    """
    prompts = experiment.task.backgrounds(count)
    unpadded = replace(experiment, padding="right")
    encoded = [unpadded.encode(part) for part in experiment.by_batch(prompts)]
    if one_length(encoded, "task, prompts with random content") != length:
        raise UserError("task", "prompts with random content differ in length from the clean ones")
    return encoded
