"""Running many circuits on a task's prompts: means, positions of the roles, sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.circuits import Group
from entitrack.engine.ablation import model_without, total_z
from entitrack.engine.circuits import circuit_answers
from entitrack.errors import UserError
from entitrack.methods.ablation import Ablation, AblationSettings, Compat, Outcomes, pick
from entitrack.methods.experiment import Experiment, clusters, prompt_inputs, role_positions
from entitrack.models.family import Model, pick_dtype
from entitrack.tasks.encoding import EncodedBatch, alternative_tokens, encode
from entitrack.tasks.prompts import LAST, Prompt, Question

Live = Bool[Tensor, "circuit role layer head"]


@dataclass(frozen=True)
class Ablated:
    """A model and the prompts of a task, ready to run circuits on.

    Attributes:
        experiment: Models, task and the place to run.
        model: The model.
        roles: The roles that circuits have heads at, in the order of their positions; the last is `last`.
        settings: How to ablate.
        units: For each batch of prompts, what its sessions are given.
        answers: Token id of the right answer, per prompt.
        clusters: Context of each prompt.
    """

    experiment: Experiment
    model: Model
    roles: tuple[str, ...]
    settings: AblationSettings
    units: tuple[dict[str, Any], ...] = field(repr=False)
    answers: Int[Tensor, " prompt"] = field(repr=False)
    clusters: Int[Tensor, " prompt"] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Roles, layers, heads."""
        return (len(self.roles), self.model.anatomy["n_layers"], self.model.anatomy["n_heads"])

    def live(self, groups: Iterable[Group]) -> Bool[Tensor, "role layer head"]:
        """The heads of groups, each at its group's role."""
        heads = torch.zeros(self.shape, dtype=torch.bool)
        for group in groups:
            for layer, head in group.heads:
                heads[self.roles.index(group.role), layer, head] = True
        return heads

    def run(self, circuits: Live, reference: Bool[Tensor, "role layer head"] | None = None) -> Outcomes:
        """What circuits answer; equal circuits are run once.

        Args:
            circuits: Live heads of each.
            reference: A circuit that most of them differ little from, which saves work; results do not depend on it.
        """
        unique, place = circuits.flatten(1).unique(dim=0, return_inverse=True)
        reference = torch.zeros(self.shape, dtype=torch.bool) if reference is None else reference
        chunk = {"chunk_tokens": self.settings.chunk_tokens}
        inputs = {"circuits": unique.reshape(-1, *self.shape), "reference": reference}
        return self._sessions(circuit_answers, inputs, "circuits", place, chunk)

    def without(self, removed: Live) -> Outcomes:
        """What the whole model answers when heads are ablated at their roles only."""
        unique, place = removed.flatten(1).unique(dim=0, return_inverse=True)
        return self._sessions(model_without, {"removed": unique.reshape(-1, *self.shape)}, "removed", place, {})

    def whole(self) -> Outcomes:
        """What the model itself answers."""
        return self.without(torch.zeros(1, *self.shape, dtype=torch.bool))

    def _sessions(
        self, function: Any, inputs: dict[str, Any], name: str, place: Tensor, settings: dict[str, Any]
    ) -> Outcomes:
        """A session for each piece of the input called `name` and each batch of prompts."""
        pieces = inputs[name].split(self.settings.circuits_per_session)
        asked = [{**unit, **inputs, name: piece} for piece in pieces for unit in self.units]
        label = f"{name}: {self.model.name}"
        found = list(self.experiment.sessions(self.model, function, asked, label, settings=settings))
        width = len(self.units)
        by_piece = [found[start : start + width] for start in range(0, len(found), width)]
        joined = {key: torch.cat([torch.cat([entry[key] for entry in row], 1) for row in by_piece]) for key in found[0]}
        correct = joined["prediction"] == self.answers[None]
        return Outcomes(correct[place], joined["probability"][place], joined["margin"][place])


def prepare(
    experiment: Experiment, model: Model, roles: Sequence[str], settings: AblationSettings, prompts: Sequence[Prompt]
) -> Ablated:
    """Encode the prompts, find the roles' order, and compute what ablated heads take.

    Raises:
        UserError: Prompts differ in length, or roles in their order; or a setting is not known.
    """
    ablation = pick(Ablation, settings.ablation, "method.ablation")
    pick(Compat, settings.compat, "method.compat")
    batches = [
        encode(prompts[start : start + experiment.batch_size], experiment.family.tokenizer, experiment.padding)
        for start in range(0, len(prompts), experiment.batch_size)
    ]
    length = one_length(batches, "task")
    ordered = order_roles(batches, roles)
    fills = _fills(experiment, model, ablation, settings.mean_count, batches, length)
    units = []
    for number, (batch, fill) in enumerate(zip(batches, fills, strict=True)):
        start = number * experiment.batch_size
        asked = questions(prompts[start : start + len(batch)])
        rivals = alternative_tokens(asked, experiment.family.tokenizer)
        positions = torch.stack([role_positions(batch, role, "circuit") for role in ordered], 1)
        units.append({"prompts": {**prompt_inputs(batch), "rivals": rivals}, "positions": positions, "fill": fill})
    answers = torch.cat([batch.answers for batch in batches])
    return Ablated(experiment, model, ordered, settings, tuple(units), answers, clusters(prompts))


def questions(prompts: Sequence[Prompt]) -> list[Question]:
    """The prompts, as what offers several answers and has a template.

    Raises:
        UserError: They are not of that kind.
    """
    for number, prompt in enumerate(prompts):
        if not (hasattr(prompt, "alternatives") and hasattr(prompt, "template")):
            raise UserError(f"prompt {number}", "its context does not offer several answers in a fixed template")
    return list(prompts)  # type: ignore[arg-type]


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
    wanted = list(dict.fromkeys((*roles, LAST)))
    first = batches[0]
    ordered = tuple(sorted(wanted, key=lambda role: int(role_positions(first, role, "circuit")[0])))
    for batch in batches:
        positions = torch.stack([batch.positions[role] for role in ordered], 1)
        if not bool((positions.diff(dim=1) > 0).all()):
            raise UserError("circuit", f"roles {', '.join(ordered)} do not stand in one order in all prompts")
    return ordered


def _fills(
    experiment: Experiment,
    model: Model,
    ablation: Ablation,
    count: int,
    batches: Sequence[EncodedBatch],
    length: int,
) -> list[dict[str, Tensor]]:
    """What ablated heads take, for each batch of prompts."""
    n_prompts = sum(len(batch) for batch in batches)
    if ablation is Ablation.RESAMPLE:
        others = background_batches(experiment, n_prompts, length)
        return [{"tokens": other.tokens, "mask": other.mask} for other in others]
    if ablation is Ablation.MEAN:
        values = mean_z(experiment, model, count, length).to(pick_dtype(experiment.family.dtype))
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
    starts = range(0, count, experiment.batch_size)
    encoded = [encode(prompts[at : at + experiment.batch_size], experiment.family.tokenizer) for at in starts]
    if one_length(encoded, "task, prompts with random content") != length:
        raise UserError("task", "prompts with random content differ in length from the clean ones")
    return encoded
