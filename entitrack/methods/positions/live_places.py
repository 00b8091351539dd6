"""What a model answers with only some places of the template live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from entitrack.engine.positions import live_position_answers
from entitrack.methods.ablated_model import AblatedModel, joined_batches
from entitrack.methods.outcomes import Outcomes

Places = Mapping[str, Int[Tensor, "prompt token"]]


@dataclass(frozen=True)
class Slots:
    """The tokens of a set of places.

    Attributes:
        tokens: Their indices in order, with the last token in any case.
        live: Which of them are live.
    """

    tokens: Int[Tensor, "prompt token"]
    live: Bool[Tensor, " token"]


def answers_with(ablated: AblatedModel, places: Places, sets: Sequence[Sequence[str]]) -> Outcomes:
    """What the model answers with only the places of each set live, `[set, prompt]`."""
    by_width: dict[int, list[int]] = {}
    slots = [slots_of(ablated, places, names) for names in sets]
    for number, of_one in enumerate(slots):
        by_width.setdefault(len(of_one.live), []).append(number)
    parts, order = [], []
    for _, members in sorted(by_width.items()):
        for piece in torch.tensor(members).split(ablated.settings.circuits_per_session):
            parts.append(_sessions(ablated, [slots[number] for number in piece.tolist()]))
            order.append(piece)
    return Outcomes.joined(parts)[torch.cat(order).argsort()]


def slots_of(ablated: AblatedModel, places: Places, names: Sequence[str]) -> Slots:
    """The tokens of some places; the last token is among them, live or not."""
    last = ablated.last[:, None]
    tokens = torch.cat([places[name] for name in names], 1) if names else last[:, :0]
    has_last = bool((tokens == last).any())
    if not has_last:
        tokens = torch.cat([tokens, last], 1)
    live = torch.ones(tokens.shape[1], dtype=torch.bool)
    live[-1] = has_last
    return Slots(tokens.sort(1).values, live)


def _sessions(ablated: AblatedModel, sets: Sequence[Slots]) -> Outcomes:
    """Sets of equally many tokens, a session a batch of prompts."""
    tokens = torch.stack([slots.tokens for slots in sets])
    live = torch.stack([slots.live for slots in sets])
    sizes = [len(batch["prompts"]["last"]) for batch in ablated.inputs]
    requests = [
        {"prompts": batch["prompts"], "fill": batch["fill"], "slots": part, "live": live}
        for batch, part in zip(ablated.inputs, tokens.split(sizes, 1), strict=True)
    ]
    budget = {"gib": ablated.experiment.gib}
    answered = list(ablated.experiment.runner.map(ablated.model, live_position_answers, requests, budget))
    return Outcomes.of(joined_batches(answered), ablated.answers)
