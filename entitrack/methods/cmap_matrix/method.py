"""Put every member's heads into every other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.result import Result
from entitrack.methods.cmap.settings import ALL_ROLES
from entitrack.methods.cmap_matrix.settings import CIRCUIT, Settings
from entitrack.methods.experiment import Experiment, prompt_set
from entitrack.methods.transplanted import (
    DonorHeads,
    Heads,
    answers_with,
    heads_of,
    random_heads,
    read_heads,
    roles_of,
    shape_of,
)
from entitrack.models.family import Model
from entitrack.models.pairs import compare_tokens
from entitrack.tasks.protocol import Prompt, continued

Sets = Bool[Tensor, "set role layer head"]
ByPair = Bool[Tensor, "set donor recipient prompt"]


@dataclass(frozen=True)
class Matrix:
    """The members, and which of their pairs are tried.

    Attributes:
        experiment: The place to run.
        models: The members.
        obstacles: By numbers of donor and recipient, what stands against a pair.
        roles: Where the heads are.
    """

    experiment: Experiment
    models: Sequence[Model]
    obstacles: dict[tuple[int, int], str]
    roles: Sequence[str]

    def answers(self, sets: Sets, prompts: Sequence[Prompt], what: str) -> tuple[ByPair, Bool[Tensor, "member prompt"]]:
        """Whether answers are right with each set of heads in every pair, and of the members as they are.

        Every member is read once, for all that it is put into, and each takes from all others before the next one does:
        weights that were let go meanwhile are loaded once more. False where a pair is not tried.
        """
        batches = self.experiment.encoded(prompts)
        used, count = sets.any(0), len(self.models)
        right = torch.zeros(len(sets), count, count, len(prompts), dtype=torch.bool)
        own = torch.zeros(count, len(prompts), dtype=torch.bool)
        read: dict[int, Sequence[DonorHeads]] = {}
        for number, donor in enumerate(self.models):
            if any((number, place) not in self.obstacles for place in range(count)):
                read[number] = list(read_heads(self.experiment, donor, batches, self.roles, used))
                own[number] = torch.cat([batch.own == batch.prompts["answers"] for batch in read[number]])
        for place, recipient in enumerate(self.models):
            for number in (number for number in read if (number, place) not in self.obstacles):
                pair = self.models[number], recipient
                right[:, number, place] = self._put(read[number], used, sets, pair, what)
        return right, own

    def _put(
        self, read: Sequence[DonorHeads], used: Heads, sets: Sets, pair: tuple[Model, Model], what: str
    ) -> Bool[Tensor, "set prompt"]:
        donor, recipient = pair
        description = f"{what} {donor.name} -> {recipient.name}"
        return answers_with(self.experiment, recipient, read, used, sets, description, len(read)).correct


def run(experiment: Experiment, settings: Settings) -> Result:
    """Put the circuit's heads of every member into every member.

    Returns:
        `correct` `[what, donor, recipient, prompt]`: of the recipient, of the donor, and of the recipient with the
        donor's heads; `tried` `[donor, recipient]`: whether the pair may exchange them; `control.*`: see `_controls`.

    Raises:
        UserError: There is no such member or group, or the groups have no heads.
    """
    base = experiment.base()
    circuit = experiment.circuit(base)
    groups = circuit.choose(settings.groups, "method.groups")
    roles = roles_of(groups)
    if not roles:
        known = [group.name for group in circuit.groups if group.heads]
        raise UserError("method.groups", "there are no heads to move", known, "choose a circuit or groups with heads")
    names = experiment.members(settings.members, "method.members")
    models = [experiment.family.load(name, f"method.members.{index}") for index, name in enumerate(names)]
    matrix = Matrix(experiment, models, _obstacles(experiment, models), roles)
    heads = heads_of(groups, roles, shape_of(base))
    prompts = experiment.task.prompts()
    right, own = matrix.answers(heads[None], prompts, "cmap_matrix")
    ends = own.expand_as(right[0]), own[:, None].expand_as(right[0])
    labels = {"donor": tuple(names), "recipient": tuple(names)}
    axes, what = ("what", "donor", "recipient", PROMPT), ("recipient", "donor", CIRCUIT)
    correct = Measurement(torch.stack([*ends, right[0]]), axes, {"what": what, **labels}, prompt_set(prompts))
    tried = torch.tensor([[(d, r) not in matrix.obstacles for r in range(len(names))] for d in range(len(names))])
    measurements = {"correct": correct, "tried": Measurement(tried, ("donor", "recipient"), labels)}
    if settings.controls:
        measurements |= _controls(matrix, heads, labels, prompts[: settings.control_prompts], settings.controls)
    facts = {
        "base": base.name,
        "groups": [group.name for group in groups if group.heads],
        "heads": int(heads.sum()),
        "obstacles": [[names[d], names[r], reason] for (d, r), reason in matrix.obstacles.items()],
    }
    return Result(method="cmap_matrix", facts=facts, measurements=measurements)


def _obstacles(experiment: Experiment, models: Sequence[Model]) -> dict[tuple[int, int], str]:
    """What stands against pairs of members, by their numbers."""
    alone = [_unfit(experiment, model) for model in models]
    found = {}
    for number, donor in enumerate(models):
        for place, recipient in enumerate(models):
            reasons = list(dict.fromkeys(reason for reason in (alone[number], alone[place]) if reason))
            reasons = reasons or experiment.obstacles(recipient, donor, ["z"])
            if reasons:
                found[number, place] = "; ".join(reasons)
    return found


def _unfit(experiment: Experiment, model: Model) -> str:
    """Why a member can neither give nor take: it has other heads than the base, or reads other words."""
    base = experiment.base()
    if model is base:
        return ""
    if shape_of(model) != shape_of(base):
        (layers, heads), (of_base, each) = shape_of(model), shape_of(base)
        return f"{model.name!r} has {layers} layers of {heads} heads, {base.name!r} {of_base} of {each}"
    texts = (continued(prompt.text, prompt.answer) for prompt in experiment.task.prompts())
    found = compare_tokens(base, model, texts)
    return f"{found.what} {found.base} in {base.name!r}, {found.donor} in {model.name!r}" if found else ""


def _controls(
    matrix: Matrix, heads: Heads, labels: dict[str, tuple[str, ...]], prompts: Sequence[Prompt], draws: int
) -> dict[str, Measurement]:
    """Every pair beside the same random heads, and beside all heads at the roles.

    Returns:
        `control.own` `[set, donor, recipient, prompt]`: whether the answers with the circuit's heads, and with all at
        the roles, are right; `control.correct` `[draw, donor, recipient, prompt]`: with random heads; `control.heads`
        `[draw, role, layer, head]`: which they are; `control.shared` `[draw]`: how many of them are the circuit's own.
    """
    drawn = random_heads(heads[None], draws, matrix.experiment.seed)[:, 0]
    sets = torch.cat([heads[None], torch.ones_like(heads)[None], drawn])
    right, _ = matrix.answers(sets, prompts, "random heads")
    on, by_pair = prompt_set(prompts), ("donor", "recipient", PROMPT)
    own_labels = {"set": (CIRCUIT, ALL_ROLES), **labels}
    return {
        "control.own": Measurement(right[:2], ("set", *by_pair), own_labels, on),
        "control.correct": Measurement(right[2:], ("draw", *by_pair), labels, on),
        "control.shared": Measurement((drawn & heads).flatten(1).sum(1), ("draw",)),
        "control.heads": Measurement(drawn, ("draw", "role", "layer", "head"), {"role": tuple(matrix.roles)}),
    }
