"""Path patching to first order: attribution patching (Nanda 2023; Syed et al. 2023) on path patching's own paths.

The effect of a sender is replaced by its linear part at the clean run: the gradient of the right answer's log
probability with respect to the sender's z, times the change of z. Frozen attention stays frozen: the gradient flows
from the receivers back through the MLPs at the senders' position alone. Gradients are taken at the clean prompt:
the slope of log p there is that of (p - p_clean) / p_clean, the score that path patching measures.

Costs two forward passes, one backward pass from the answer to the receivers, and one through a single token's MLPs.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from entitrack.engine.anatomy import (
    Anatomy,
    after_heads,
    at,
    last_logits,
    layer_at,
    part,
    projection,
    split_heads,
    unembed,
)
from entitrack.engine.answers import Prompts, answer_probability, forward_inputs
from entitrack.engine.elsewhere import takes_gradients
from entitrack.engine.passes import SourcePrompts, read_source
from entitrack.engine.path_patching import receive
from entitrack.engine.receivers import Receivers, receiver_columns, receiver_heads, receiving_layers


@takes_gradients
def attribution_effects(
    model: Any, anatomy: Anatomy, clean: Prompts, source: SourcePrompts, receivers: Receivers
) -> dict[str, Tensor]:
    """First-order effects of all senders; arguments as of `path_patching.path_effects`.

    Returns:
        `effect` `[batch, layer, head]`, 0 where no path leads from a sender.
    """
    reading = receiving_layers(receivers)
    top = max(reading, default=anatomy["n_layers"])
    effect = torch.zeros(len(clean["last"]), anatomy["n_layers"], anatomy["n_heads"], device=clean["last"].device)
    if top == 0:
        return {"effect": effect}
    source_z = read_source(model, anatomy, source, list(range(top)))
    with torch.enable_grad():
        with model.trace(forward_inputs(clean), use_cache=False):
            state = read_clean_with_leaves(model, anatomy, clean["position"], top, reading, receivers)
            probability = answer_probability(last_logits(model, anatomy, clean["last"]), clean["answers"])
            slopes = receiver_slopes(state["leaves"], probability)
            z = [values.clone().requires_grad_(True) for values in state["z"]]
            target = one_token_target(model, anatomy, state["resid_pre"], z, slopes, clean["answers"], receivers)
            gradients = torch.autograd.grad(target, z)
    for layer in range(top):
        slope = split_heads(anatomy, "z", gradients[layer]).float()
        change = source_z[layer].float() - split_heads(anatomy, "z", state["z"][layer]).float()
        effect[:, layer] = (slope * change).sum(-1)
    return {"effect": effect.detach()}


def read_clean_with_leaves(
    model: Any, anatomy: Anatomy, position: Tensor, top: int, reading: list[int], receivers: Receivers
) -> dict[str, Any]:
    """What the gradients need of the clean run, and leaves of autograd in place of the receivers.

    Returns:
        `resid_pre` `[batch, d_model]` of the first layer, `z` `[batch, width]` of layers below `top`, at the position;
        `leaves`: layer -> the receivers' values `[batch, width]`.
    """
    state: dict[str, Any] = {"z": [], "leaves": {}}
    rows = torch.arange(len(position), device=position.device)[:, None]
    for layer in range(min(top + 1, anatomy["n_layers"])):
        if layer == 0:
            state["resid_pre"] = at(layer_at(model, anatomy, layer).input, position).detach()
        if layer in reading:
            module = projection(model, anatomy, layer, receivers["component"])
            values = module.output.clone()
            rows, position = rows.to(values.device), position.to(values.device)
            columns = receiver_columns(anatomy, receivers, layer, values.device)
            leaf = values[rows, position[:, None], columns[None]].detach().requires_grad_(True)
            values[rows, position[:, None], columns[None]] = leaf
            module.output = values
            state["leaves"][layer] = leaf
        if layer < top:
            state["z"].append(at(part(model, anatomy, layer, "o_proj").input, position).detach())
    return state


def receiver_slopes(leaves: dict[int, Tensor], probability: Tensor) -> dict[int, Float[Tensor, "batch width"]]:
    """Layer -> gradient of log probability of the right answer with respect to its receivers; none for logits."""
    if not leaves:
        return {}
    layers = sorted(leaves)
    gradients = torch.autograd.grad(probability.log().sum(), [leaves[layer] for layer in layers])
    return dict(zip(layers, gradients, strict=True))


def one_token_target(
    model: Any,
    anatomy: Anatomy,
    resid_pre: Float[Tensor, "batch d_model"],
    z: list[Float[Tensor, "batch width"]],
    slopes: dict[int, Tensor],
    answers: Tensor,
    receivers: Receivers,
) -> Float[Tensor, ""]:
    """What the senders' z change to first order, summed over prompts, as a function of z.

    For logits the log probability of the right answer itself; for receivers their values, weighted by its slopes.
    """
    stream, target = resid_pre, torch.zeros((), device=resid_pre.device)
    for layer in range(len(z) + 1):
        if layer in slopes:
            heads = receiver_heads(receivers, layer)
            values = receive(model, anatomy, layer, stream[:, None], receivers["component"], heads)[:, 0]
            target = target + (slopes[layer] * values.flatten(1)).float().sum().to(target.device)
        if layer < len(z):
            stream = after_heads(model, anatomy, layer, stream, z[layer])
    if not slopes:
        target = answer_probability(unembed(model, anatomy, stream), answers).log().sum()
    return target
