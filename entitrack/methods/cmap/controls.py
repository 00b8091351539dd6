"""Random heads in the place of a group's: what a transplant of as many heads does by itself.

1. For every transplant, sets of random heads of its shape are drawn, at the same roles and outside of its groups: from
   any layer, and from the layers that its own heads are in.
2. The donor's z of all heads that occur is read, and every set is transplanted as the groups are, on the same prompts.
3. The group is held against them: how many do at least as well, and what it gains over their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.core.circuits import Group
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.engine.patching import read_sites
from entitrack.engine.transplants import transplanted_answers
from entitrack.methods.cmap.transplants import Transplant
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set, role_positions
from entitrack.models.family import Model
from entitrack.tasks.protocol import LAST, Prompt

SAME_ROLE, SAME_LAYERS = KINDS = ("same role", "same role and layers")
"""Where the heads of random sets come from, besides being outside of the group."""

ALL_LAST, ALL_ROLES = "all heads at last", "all heads at the roles"
"""The most that heads at the last token, and at the circuit's roles, can do."""

CHUNK_TOKENS = 8192
"""At most this many tokens go through the model at once."""

Heads = Bool[Tensor, "role layer head"]


@dataclass(frozen=True)
class Controlled:
    """A transplant and the random sets beside it.

    Attributes:
        name: Of the transplant.
        own: Its heads.
        drawn: By kind, the random sets; None where too few other heads are there.
    """

    name: str
    own: Heads
    drawn: tuple[Bool[Tensor, "draw role layer head"] | None, ...]


def controls(
    experiment: Experiment,
    base: Model,
    donor: Model,
    transplants: Sequence[Transplant],
    draws: int,
    count: int | None,
) -> dict[str, Measurement]:
    """Transplants of z beside random sets of heads of their shape, and beside all heads.

    Args:
        experiment: The place to run.
        base: What heads are put into.
        donor: What they are taken from.
        transplants: The transplants; those without heads have no controls.
        draws: Random sets of each kind.
        count: How many prompts, the task's first; None takes all.

    Returns:
        See `_measurements`; nothing where no transplant has heads.
    """
    groups = [group for one in transplants for group in one.groups if group.heads]
    roles = list(dict.fromkeys(group.role for group in groups))
    shape = (base.anatomy["n_layers"], base.anatomy["n_heads"])
    drawn = draw(transplants, roles, shape, draws, experiment.seed)
    return _run(experiment, base, donor, drawn, roles, experiment.task.prompts()[:count]) if drawn else {}


def draw(
    transplants: Sequence[Transplant], roles: Sequence[str], shape: tuple[int, int], draws: int, seed: int
) -> list[Controlled]:
    """Random sets beside every transplant that has heads; then all heads at last, and all heads at all roles.

    Args:
        transplants: The transplants.
        roles: Roles of their groups.
        shape: Layers and heads of the model.
        draws: Random sets of each kind.
        seed: Seed of the draws.
    """
    controlled = []
    for one in transplants:
        own = torch.stack([heads_at(role, one.groups, shape) for role in roles]) if roles else torch.zeros(0)
        if own.any():
            controlled.append(Controlled(one.name, own, tuple(_random_sets(own, kind, draws, seed) for kind in KINDS)))
    if not controlled:
        return []
    every, at_last = torch.ones(len(roles), *shape, dtype=torch.bool), torch.tensor([role == LAST for role in roles])
    brackets = {ALL_LAST: every & at_last[:, None, None], ALL_ROLES: every}
    none = (None,) * len(KINDS)
    return [*controlled, *(Controlled(name, heads, none) for name, heads in brackets.items() if heads.any())]


def heads_at(role: str, groups: Sequence[Group], shape: tuple[int, int]) -> Bool[Tensor, "layer head"]:
    """The heads that groups have at a role."""
    heads = torch.zeros(shape, dtype=torch.bool)
    for group in groups:
        for layer, head in group.heads if group.role == role else ():
            heads[layer, head] = True
    return heads


def _random_sets(own: Heads, kind: str, draws: int, seed: int) -> Bool[Tensor, "draw role layer head"] | None:
    """Sets of as many other heads at every role; None if there are not so many."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(draws, *own.shape, dtype=torch.bool)
    for role, heads in enumerate(own):
        pool = ~heads & heads.any(1, keepdim=True) if kind == SAME_LAYERS else ~heads
        others, wanted = pool.flatten().nonzero().flatten(), int(heads.sum())
        if len(others) < wanted:
            return None
        for one in drawn:
            one[role].view(-1)[others[torch.randperm(len(others), generator=generator)[:wanted]]] = True
    return drawn


def _run(
    experiment: Experiment,
    base: Model,
    donor: Model,
    controlled: Sequence[Controlled],
    roles: Sequence[str],
    prompts: Sequence[Prompt],
) -> dict[str, Measurement]:
    """Transplant every set, a session in each model for each batch of prompts."""
    batches = experiment.encoded(prompts)
    every = [torch.cat([one.own[None], *(drawn for drawn in one.drawn if drawn is not None)]) for one in controlled]
    once = [sets.unique(dim=0, return_inverse=True) for sets in every]  # few heads are soon drawn twice
    sets = [unique for unique, _ in once]
    used = torch.cat(sets).any(0)
    moved = [each[:, used] for each in sets]
    places = [{role: role_positions(batch, role, "circuit") for role in roles} for batch in batches]
    asked = [
        {"prompts": prompt_inputs(batch), "sites": _sites(used, list(where.values()))}
        for batch, where in zip(batches, places, strict=True)
    ]

    def filled() -> Iterator[dict[str, Any]]:
        """What the base is given for each batch, as soon as the donor has answered it."""
        read = experiment.runner.map(donor, read_sites, asked)
        for given, where, answered in zip(asked, places, read, strict=True):
            role, layer, head = used.nonzero(as_tuple=True)
            yield {
                "prompts": given["prompts"],
                "heads": torch.stack([layer, head], 1).tolist(),
                "positions": torch.stack(list(where.values()))[role],
                "values": torch.cat(answered["values"], 1),
                "moved": moved,
            }

    description = f"random heads {donor.name} -> {base.name}"
    chunk = {"chunk_tokens": CHUNK_TOKENS}
    taken = experiment.sessions(base, transplanted_answers, filled(), description, len(batches), chunk)
    right = [answers["prediction"] == batch.answers for answers, batch in zip(taken, batches, strict=True)]
    parts = torch.cat(right, 1).split([len(each) for each in sets])
    by_transplant = [part[place] for part, (_, place) in zip(parts, once, strict=True)]
    return _measurements(controlled, by_transplant, roles, prompt_set(prompts))


def _sites(used: Heads, positions: Sequence[Int[Tensor, " batch"]]) -> list[dict[str, Any]]:
    """The donor's z of the heads that occur, by role and layer, as `read_sites` takes them."""
    return [
        {"component": "z", "layer": layer, "heads": heads.nonzero().flatten().tolist(), "position": position}
        for by_layer, position in zip(used, positions, strict=True)
        for layer, heads in enumerate(by_layer)
        if heads.any()
    ]


def _measurements(
    controlled: Sequence[Controlled],
    right: Sequence[Bool[Tensor, "set prompt"]],
    roles: Sequence[str],
    prompts: PromptSet,
) -> dict[str, Measurement]:
    """What was answered, by transplant.

    Returns:
        `control.own` `[transplant, prompt]`: whether the answers with the transplants are right; `control.correct`
        `[transplant, kind, draw, prompt]`: with the random sets, false where there are none; `control.gain`
        `[transplant, kind, prompt]`: the one minus the mean of the others; `control.drawn` `[transplant, kind]`:
        whether there are random sets; `control.heads` `[transplant, kind, draw, role, layer, head]`: which they have.
    """
    names = tuple(one.name for one in controlled)
    draws = max([len(drawn) for one in controlled for drawn in one.drawn if drawn is not None], default=0)
    shape = controlled[0].own.shape
    correct = torch.zeros(len(names), len(KINDS), draws, len(prompts.texts), dtype=torch.bool)
    heads = torch.zeros(len(names), len(KINDS), draws, *shape, dtype=torch.bool)
    is_drawn = torch.tensor([[drawn is not None for drawn in one.drawn] for one in controlled])
    for number, (one, answers) in enumerate(zip(controlled, right, strict=True)):
        parts = iter(answers[1:].split(draws))
        for kind, drawn in enumerate(one.drawn):
            if drawn is not None:
                correct[number, kind], heads[number, kind] = next(parts), drawn
    labels = {"transplant": names, "kind": KINDS}
    own = torch.stack([answers[0] for answers in right])
    gain = own[:, None].double() - correct.double().mean(2)
    return {
        "control.own": Measurement(own, ("transplant", PROMPT), {"transplant": names}, prompts),
        "control.correct": Measurement(correct, ("transplant", "kind", "draw", PROMPT), labels, prompts),
        "control.gain": Measurement(gain, ("transplant", "kind", PROMPT), labels, prompts),
        "control.drawn": Measurement(is_drawn, ("transplant", "kind"), labels),
        "control.heads": Measurement(
            heads, ("transplant", "kind", "draw", "role", "layer", "head"), {**labels, "role": tuple(roles)}
        ),
    }
