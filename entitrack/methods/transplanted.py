"""One model's answers with another's z in sets of its heads (section 6).

1. `read_heads`: the donor's z of heads at their roles, batch by batch, once for all that they are put into.
2. `answers_with`: what a recipient answers with each of many sets of these heads.
3. `random_heads`: sets of random heads in the place of a chain of sets, each of which holds the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.statistics.controls import different
from entitrack.engine.patching import read_sites
from entitrack.engine.transplants import transplanted_answers
from entitrack.methods.experiment import Experiment, prompt_inputs, role_positions
from entitrack.models.anatomy import Head
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch

_DECIMALS = 5
"""Of mean probabilities that are compared; more of them are rounding noise."""

Heads = Bool[Tensor, "role layer head"]


@dataclass(frozen=True)
class DonorHeads:
    """What a donor has in its heads, in one batch of prompts.

    Attributes:
        prompts: The prompts.
        heads: `[layer, head]` of each.
        positions: Where each was read.
        values: Its z.
        own: What the donor answers.
        probability: Of the right answer, in the donor.
    """

    prompts: dict[str, Tensor]
    heads: list[list[int]]
    positions: Int[Tensor, "head batch"]
    values: Float[Tensor, "batch head d_head"]
    own: Int[Tensor, " batch"]
    probability: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Answers:
    """How prompts are answered with each set of heads.

    Attributes:
        correct: Whether rightly.
        probability: Of the right answer.
    """

    correct: Bool[Tensor, "set prompt"]
    probability: Float[Tensor, "set prompt"]

    def worth(self, number: int) -> tuple[float, float]:
        """Accuracy with a set, then mean probability, without its rounding noise: in this order sets are compared."""
        return float(self.correct[number].double().mean()), round(
            float(self.probability[number].double().mean()), _DECIMALS
        )


def heads_at(role: str, groups: Sequence[Group], shape: tuple[int, int]) -> Bool[Tensor, "layer head"]:
    """The heads that groups have at a role."""
    heads = torch.zeros(shape, dtype=torch.bool)
    for group in groups:
        for layer, head in group.heads if group.role == role else ():
            heads[layer, head] = True
    return heads


def roles_of(groups: Iterable[Group]) -> list[str]:
    """The roles of groups that have heads, each once."""
    return list(dict.fromkeys(group.role for group in groups if group.heads))


def heads_of(groups: Sequence[Group], roles: Sequence[str], shape: tuple[int, int]) -> Heads:
    """The heads that groups have, role by role."""
    return torch.stack([heads_at(role, groups, shape) for role in roles])


def shape_of(model: Model) -> tuple[int, int]:
    """How many layers a model has, and how many heads each."""
    return model.anatomy["n_layers"], model.anatomy["n_heads"]


def units_of(group: Group, units: str) -> dict[str, Group]:
    """What of a group moves by itself: all of it, each head, or what it has in each layer."""
    if units == "heads":
        return {f"{group.name} {la}.{he}": Group(group.name, group.role, ((la, he),)) for la, he in group.heads}
    if units == "layers":
        by_layer: dict[int, list[Head]] = {}
        for layer, head in group.heads:
            by_layer.setdefault(layer, []).append((layer, head))
        layers = sorted(by_layer)
        return {f"{group.name} layer {la}": Group(group.name, group.role, tuple(by_layer[la])) for la in layers}
    return {group.name: group}


def read_heads(
    experiment: Experiment, donor: Model, batches: Sequence[EncodedBatch], roles: Sequence[str], used: Heads
) -> Iterator[DonorHeads]:
    """Read the donor: a session a batch, each as soon as it is asked for.

    Args:
        experiment: The place to run.
        donor: What is read.
        batches: The prompts.
        roles: Where heads are.
        used: Which heads.
    """
    role, layer, head = used.nonzero(as_tuple=True)
    heads = torch.stack([layer, head], 1).tolist()
    places = [torch.stack([role_positions(batch, name, "circuit") for name in roles]) for batch in batches]
    asked = [
        {"prompts": prompt_inputs(batch), "sites": _sites(used, where)}
        for batch, where in zip(batches, places, strict=True)
    ]
    for given, where, read in zip(asked, places, experiment.runner.map(donor, read_sites, asked), strict=True):
        values = torch.cat(read["values"], 1)
        prompts: Any = given["prompts"]
        yield DonorHeads(prompts, heads, where[role], values, read["prediction"], read["probability"])


def _sites(used: Heads, positions: Int[Tensor, "role batch"]) -> list[dict[str, Any]]:
    """Z of the heads by role and layer, as `read_sites` takes them."""
    return [
        {"component": "z", "layer": layer, "heads": heads.nonzero().flatten().tolist(), "position": position}
        for by_layer, position in zip(used, positions, strict=True)
        for layer, heads in enumerate(by_layer)
        if heads.any()
    ]


def answers_with(
    experiment: Experiment,
    recipient: Model,
    read: Iterable[DonorHeads],
    used: Heads,
    sets: Bool[Tensor, "set role layer head"],
    description: str,
    total: int,
) -> Answers:
    """Answers with the donor's z in each set of heads: a session for each batch of prompts.

    Args:
        experiment: The place to run.
        recipient: What heads are put into.
        read: The donor's, of all heads that sets have, batch by batch.
        used: Which heads were read.
        sets: The sets; one without heads is the recipient itself.
        description: What is said of it while it runs.
        total: How many batches there are.
    """
    unique, place = sets.unique(dim=0, return_inverse=True)  # few heads are soon drawn twice
    # Sets at one role go together: a set at an early token has all of its part run from there on.
    patterns, pattern = unique.flatten(2).any(2).unique(dim=0, return_inverse=True)
    order = pattern.argsort(stable=True)
    moved = [unique[pattern == number][:, used] for number in range(len(patterns))]
    answers: list[Tensor] = []

    def filled() -> Iterator[dict[str, Any]]:
        """What the recipient is given for each batch, as soon as the donor has answered it."""
        for batch in read:
            answers.append(batch.prompts["answers"])
            yield {
                "prompts": batch.prompts,
                "heads": batch.heads,
                "positions": batch.positions,
                "values": batch.values,
                "moved": moved,
            }

    budget = {"gib": experiment.gib}
    taken = list(experiment.sessions(recipient, transplanted_answers, filled(), description, total, budget))
    rows = order.argsort()[place]
    right = [given["prediction"] == answer for given, answer in zip(taken, answers, strict=True)]
    return Answers(torch.cat(right, 1)[rows], torch.cat([given["probability"] for given in taken], 1)[rows])


def random_heads(
    chain: Bool[Tensor, "step role layer head"], draws: int, seed: int
) -> Bool[Tensor, "draw step role layer head"]:
    """Chains of as many random heads at every role as a chain has, each step with those of the step before.

    Heads outside of the chain come first, in random order; only where a role has no more of them, the chain's own
    follow, in random order too. The last step is thus as far from the chain's as the model allows.

    Args:
        chain: Sets of heads, each of which holds the one before.
        draws: How many chains are drawn.
        seed: Seed of the draws.

    Returns:
        Those that differ, in the order in which they were drawn: where few other heads are left, they are fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(draws, *chain.shape, dtype=torch.bool)
    for role, own in enumerate(chain[-1]):
        counts = chain[:, role].flatten(1).sum(1).tolist()
        pools = [heads.flatten().nonzero().flatten() for heads in (~own, own)]
        for one in drawn:
            ranked = torch.cat([pool[torch.randperm(len(pool), generator=generator)] for pool in pools])
            for step, count in enumerate(counts):
                one[step, role].view(-1)[ranked[:count]] = True
    return drawn[different(drawn)]
