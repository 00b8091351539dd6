"""Random heads in the place of a group's: what a transplant of as many heads does by itself.

1. For every transplant, sets of random heads of its shape are drawn, at the same roles and outside of its groups: from
   any layer, and from the layers that its own heads are in.
2. The donor's z of all heads that occur is read, and every set is transplanted as the groups are, on the same prompts.
3. The group is held against them: how many do at least as well, and what it gains over their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.methods.cmap.settings import ALL_LAST, ALL_ROLES
from entitrack.methods.cmap.transplants import Transplant
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.transplanted import Heads, answers_with, heads_of, read_heads, roles_of, shape_of
from entitrack.models.family import Model
from entitrack.tasks.protocol import LAST, Prompt

SAME_ROLE, SAME_LAYERS = KINDS = ("same role", "same role and layers")
"""Where the heads of random sets come from, besides being outside of the group."""


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
    roles = roles_of(group for one in transplants for group in one.groups)
    drawn = draw(transplants, roles, shape_of(base), draws, experiment.seed)
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
        own = heads_of(one.groups, roles, shape) if roles else torch.zeros(0)
        if own.any():
            controlled.append(Controlled(one.name, own, tuple(_random_sets(own, kind, draws, seed) for kind in KINDS)))
    if not controlled:
        return []
    every, at_last = torch.ones(len(roles), *shape, dtype=torch.bool), torch.tensor([role == LAST for role in roles])
    brackets = {ALL_LAST: every & at_last[:, None, None], ALL_ROLES: every}
    none = (None,) * len(KINDS)
    return [*controlled, *(Controlled(name, heads, none) for name, heads in brackets.items() if heads.any())]


def all_heads(measurements: Mapping[str, Measurement]) -> dict[str, Bool[Tensor, " prompt"]]:
    """Whether answers are right with all heads, by name, where that was measured."""
    if "control.own" not in measurements:
        return {}
    own = measurements["control.own"]
    return {name: own.at(transplant=name).values for name in own.names("transplant") if name in (ALL_LAST, ALL_ROLES)}


def _random_sets(own: Heads, kind: str, draws: int, seed: int) -> Bool[Tensor, "draw role layer head"] | None:
    """Different sets of as many other heads at every role; all there are, if these are fewer; None if there are none.

    A set that is drawn twice is no second witness: where few other heads are left, there are few sets.
    """
    pools, wanted = [], [int(heads.sum()) for heads in own]
    for heads in own:
        pool = ~heads & heads.any(1, keepdim=True) if kind == SAME_LAYERS else ~heads
        pools.append(pool.flatten().nonzero().flatten())
    there_are = math.prod(math.comb(len(pool), count) for pool, count in zip(pools, wanted, strict=True))
    if not there_are or not draws:
        return None
    if there_are <= draws:
        by_role = [combinations(pool.tolist(), count) for pool, count in zip(pools, wanted, strict=True)]
        sets = list(product(*by_role))
    else:
        sets = _different_sets(pools, wanted, draws, torch.Generator().manual_seed(seed))
    drawn = torch.zeros(len(sets), *own.shape, dtype=torch.bool)
    for one, by_role_heads in zip(drawn, sets, strict=True):
        for role, heads_drawn in enumerate(by_role_heads):
            one[role].view(-1)[list(heads_drawn)] = True
    return drawn


def _different_sets(
    pools: Sequence[Int[Tensor, " head"]], wanted: Sequence[int], draws: int, generator: torch.Generator
) -> list[tuple[tuple[int, ...], ...]]:
    """Random sets, none twice; there must be as many."""
    found: dict[tuple[tuple[int, ...], ...], None] = {}
    while len(found) < draws:
        by_role = []
        for pool, count in zip(pools, wanted, strict=True):
            chosen = pool[torch.randperm(len(pool), generator=generator)[:count]]
            by_role.append(tuple(sorted(chosen.tolist())))
        found[tuple(by_role)] = None
    return list(found)


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
    sets = torch.cat(every)
    used = sets.any(0)
    read = read_heads(experiment, donor, batches, roles, used)
    description = f"random heads {donor.name} -> {base.name}"
    right = answers_with(experiment, base, read, used, sets, description, len(batches)).correct
    return _measurements(controlled, right.split([len(part) for part in every]), roles, prompt_set(prompts))


def _measurements(
    controlled: Sequence[Controlled],
    right: Sequence[Bool[Tensor, "set prompt"]],
    roles: Sequence[str],
    prompts: PromptSet,
) -> dict[str, Measurement]:
    """What was answered, by transplant.

    Returns:
        `control.own` `[transplant, prompt]`: whether the answers with the transplants are right; `control.correct`
        `[transplant, kind, draw, prompt]`: with the random sets, false where there are no more; `control.gain`
        `[transplant, kind, prompt]`: the one minus the mean of the others; `control.drawn` `[transplant, kind]`:
        how many random sets there are; `control.heads` `[transplant, kind, draw, role, layer, head]`: their heads.
    """
    names = tuple(one.name for one in controlled)
    draws = max([len(drawn) for one in controlled for drawn in one.drawn if drawn is not None], default=0)
    shape = controlled[0].own.shape
    correct = torch.zeros(len(names), len(KINDS), draws, len(prompts.texts), dtype=torch.bool)
    heads = torch.zeros(len(names), len(KINDS), draws, *shape, dtype=torch.bool)
    counts = torch.tensor([[0 if drawn is None else len(drawn) for drawn in one.drawn] for one in controlled])
    for number, (one, answers) in enumerate(zip(controlled, right, strict=True)):
        parts = answers[1:].split(counts[number].tolist())
        for kind, (drawn, part) in enumerate(zip(one.drawn, parts, strict=True)):
            if drawn is not None:
                correct[number, kind, : len(drawn)], heads[number, kind, : len(drawn)] = part, drawn
    labels = {"transplant": names, "kind": KINDS}
    own = torch.stack([answers[0] for answers in right])
    gain = own[:, None].double() - correct.double().sum(2) / counts.clamp(min=1)[..., None]
    return {
        "control.own": Measurement(own, ("transplant", PROMPT), {"transplant": names}, prompts),
        "control.correct": Measurement(correct, ("transplant", "kind", "draw", PROMPT), labels, prompts),
        "control.gain": Measurement(gain, ("transplant", "kind", PROMPT), labels, prompts),
        "control.drawn": Measurement(counts, ("transplant", "kind"), labels),
        "control.heads": Measurement(
            heads, ("transplant", "kind", "draw", "role", "layer", "head"), {**labels, "role": tuple(roles)}
        ),
    }
