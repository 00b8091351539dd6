"""Block every edge from every layer on: one session a source and batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from entitrack.core.errors import UserError, quoted
from entitrack.core.result import Result
from entitrack.core.stages import Edge
from entitrack.engine.knockout import knockout_answers
from entitrack.methods.ablated_model import joined_batches
from entitrack.methods.attention_knockout.settings import RANDOM, Settings
from entitrack.methods.experiment import Experiment, prompt_set, question_inputs, role_positions
from entitrack.methods.outcomes import Outcomes
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import Prompt


@dataclass(frozen=True)
class Blocked:
    """What one source is kept from seeing.

    Attributes:
        source: The role that attends.
        targets: The roles that are hidden from it, one at a time.
        control: Whether a position drawn at random is hidden too, after them.
    """

    source: str
    targets: tuple[str, ...]
    control: bool

    def record(self) -> list[dict[str, str | None]]:
        """Its edges as plain values; that to a random position has no target."""
        targets = [*self.targets, *([None] if self.control else [])]
        return [{"source": self.source, "target": target} for target in targets]


def run(experiment: Experiment, settings: Settings) -> Result:
    """Block every edge from every layer on.

    Returns:
        See `Outcomes`, `[edge, first_blocked, prompt]`; the last of the `n_layers + 1` first blocked layers blocks
        none. An edge to a position drawn at random follows the others of its source.
    """
    sources = by_source(edges_of(experiment, settings), experiment.roles, settings.control)
    model = experiment.member(settings.model, "method.model")
    prompts = experiment.task.prompts()
    unpadded = replace(experiment, padding="right")
    outcomes = Outcomes.joined([answers(unpadded, model, prompts, one) for one in sources])
    edges = [edge for one in sources for edge in one.record()]
    layers = [str(layer) for layer in range(model.anatomy["n_layers"])]
    labels = {
        "edge": [f"{edge['source']} -> {edge['target'] or RANDOM}" for edge in edges],
        "first_blocked": [*layers, "none"],
    }
    return Result(
        method="attention_knockout",
        facts={"model": model.name, "metric": settings.metric, "edges": edges},
        measurements=outcomes.measurements(("edge", "first_blocked"), labels, prompt_set(prompts)),
        words=experiment.words(outcomes.prediction),
    )


def edges_of(experiment: Experiment, settings: Settings) -> Sequence[Edge]:
    """The edges that a run is told, or the task's own.

    Raises:
        UserError: The task says none.
    """
    edges = experiment.task.edges if settings.edges is None else settings.edges
    if not edges:
        fix = "give it `edges`, or say method.edges=[{source: last, target: ...}]"
        raise UserError("method.edges", f"task {experiment.task.name!r} has no edges of its own", fix=fix)
    return edges


def by_source(edges: Sequence[Edge], roles: Sequence[str], control: bool) -> list[Blocked]:
    """The edges, put together by their source.

    Raises:
        UserError: An edge is there twice, or the task does not have a role: the edge's key is named.
    """
    targets: dict[str, list[str]] = {}
    for number, edge in enumerate(edges):
        place = f"method.edges.{number}"
        for end, role in (("source", edge.source), ("target", edge.target)):
            if role not in roles:
                raise UserError(f"{place}.{end}", f"the task has no role {quoted(role)}", roles)
        if edge.source == edge.target:
            raise UserError(place, f"{edge.source!r} is not before itself")
        hidden = targets.setdefault(edge.source, [])
        if edge.target in hidden:
            raise UserError(place, f"{edge.source!r} to {edge.target!r} is there twice")
        hidden.append(edge.target)
    return [Blocked(source, tuple(hidden), control) for source, hidden in targets.items()]


def answers(experiment: Experiment, model: Model, prompts: Sequence[Prompt], blocked: Blocked) -> Outcomes:
    """What is answered when one source cannot see its targets, `[edge, first_blocked, prompt]`."""
    batches = experiment.encoded(prompts)
    random = Random(f"knockout/{experiment.seed}/{blocked.source}")
    inputs = [
        block_inputs(experiment, random, part, batch, blocked)
        for part, batch in zip(experiment.by_batch(prompts), batches, strict=True)
    ]
    label = f"attention knockout, {blocked.source}: {model.name}"
    budget = {"gib": experiment.gib}
    answered = list(experiment.sessions(model, knockout_answers, inputs, label, settings=budget))
    return Outcomes.of(joined_batches(answered), torch.cat([batch.answers for batch in batches]))


def block_inputs(
    experiment: Experiment, random: Random, prompts: Sequence[Prompt], batch: EncodedBatch, blocked: Blocked
) -> dict[str, Any]:
    """What `knockout_answers` takes for one source and a batch of prompts.

    Raises:
        UserError: A target is not before the source.
    """
    source = role_positions(batch, blocked.source, "method.edges")
    hidden = torch.stack([role_positions(batch, target, "method.edges") for target in blocked.targets])
    for target, positions in zip(blocked.targets, hidden, strict=True):
        if not bool((positions < source).all()):
            problem = f"{target!r} is not before {blocked.source!r}, which sees only what is before it"
            raise UserError("method.edges", problem)
    if blocked.control:
        hidden = torch.cat([hidden, random_positions(random, source, hidden)[None]])
    return {"prompts": question_inputs(experiment, prompts, batch), "source": source, "targets": hidden}


def random_positions(
    random: Random, source: Int[Tensor, " batch"], taken: Int[Tensor, "target batch"]
) -> Int[Tensor, " batch"]:
    """A position before each source, neither the first token nor one that is taken.

    Raises:
        UserError: There is none.
    """
    drawn = []
    for end, gone in zip(source.tolist(), taken.T.tolist(), strict=True):
        free = [index for index in range(1, end) if index not in gone]
        if not free:
            raise UserError("method.control", "no other position is before the source", fix="method.control=false")
        drawn.append(random.choice(free))
    return torch.tensor(drawn)
