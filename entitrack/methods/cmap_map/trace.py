"""What a model's answers would gain from other values of its components, to first order (attribution patching)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.core.components import WITH_HEADS
from entitrack.engine.anatomy import Anatomy, last_logits
from entitrack.engine.answers import Prompts, answer_probability, forward_inputs
from entitrack.engine.elsewhere import takes_gradients
from entitrack.engine.patching import by_place
from entitrack.engine.sites import Patch, Visit, columns_of, read, visit_layer


class Gains(TypedDict):
    """By patch."""

    gain: list[Float[Tensor, "batch _"]]
    """Slope of log p of the right answer times the change, by head where there are heads."""
    probability: Float[Tensor, " batch"]
    """Of the right answer, with nothing changed."""


@takes_gradients
def first_order_gains(model: Any, anatomy: Anatomy, prompts: Prompts, patches: Sequence[Patch]) -> Gains:
    """Gains of many patches, each by itself, in one pass forwards and one backwards.

    Frozen: nothing. Recomputed: everything, once. Replaced: nothing; zeros added at every site carry the slope.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        patches: What could be replaced, at one position a prompt, and by what.
    """
    own: dict[int, Tensor] = {}
    added: dict[int, Tensor] = {}
    visits: dict[int, dict[str, Visit]] = {}
    for layer, component, numbers in by_place(patches):

        def add_zeros(whole: Tensor, numbers: list[int] = numbers) -> Tensor:
            """The component with zeros added at the sites, along which slopes are taken."""
            changed = whole.clone()
            rows = torch.arange(len(whole), device=whole.device)[:, None]
            for number in numbers:
                site = patches[number]
                own[number] = read(anatomy, site, whole).detach()
                columns = columns_of(anatomy, site, whole)
                zeros = whole.new_zeros(len(whole), len(columns), requires_grad=True)
                place = site["position"].to(whole.device)[:, None]
                changed[rows, place, columns] = changed[rows, place, columns] + zeros
                added[number] = zeros
            return changed

        visits.setdefault(layer, {})[component] = add_zeros
    with torch.enable_grad():
        with model.trace(forward_inputs(prompts), use_cache=False):
            for layer in sorted(visits):
                visit_layer(model, anatomy, layer, visits[layer])
            probability = answer_probability(last_logits(model, anatomy, prompts["last"]), prompts["answers"])
            order = sorted(added)
            slopes = torch.autograd.grad(probability.log().sum(), [added[number] for number in order])
    gains = []
    for number, slope in zip(order, slopes, strict=True):
        change = (patches[number]["values"].to(own[number]) - own[number]).float()
        heads = change.shape[1] if patches[number]["component"] in WITH_HEADS else 1
        gains.append((slope.float() * change.flatten(1)).view(len(change), heads, -1).sum(-1))
    return {"gain": gains, "probability": probability.detach()}
