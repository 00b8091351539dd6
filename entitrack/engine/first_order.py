"""What senders do through their receivers to first order in the receivers alone: the sweep is exact, the suffix is not.

1. The sweep of one-token MLPs gives what every sender makes of the receivers, exactly, as in `path_patching`.
2. One pass forwards and one backwards over the clean suffix give the slope of the log probability of the right answer
   along the receivers' values, which is that of (p - p_clean) / p_clean.
3. Slope times change scores all senders at once. How far that may be off goes with the square of the change's size.

Replaced: nothing; the slope is that of the clean run. Recomputed: the suffix, once. Frozen: the tokens before it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, unembed
from entitrack.engine.answers import Prompts, answer_probability
from entitrack.engine.elsewhere import takes_gradients
from entitrack.engine.layout import at_slots, lay_out, prefix_cache
from entitrack.engine.memory import in_pieces
from entitrack.engine.passes import Passes, SourcePrompts, both_passes
from entitrack.engine.path_patching import at_position, scatter_effects, sweep_in_pieces
from entitrack.engine.receivers import Receivers, receiver_columns, receiving_layers
from entitrack.engine.rerun import rerun
from entitrack.engine.sites import Visit, put


@takes_gradients
def first_order_suffix(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    source: SourcePrompts,
    senders: list[list[int]],
    receivers: Receivers,
    gib: float | None = None,
    kept: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Effect of every sender, to first order in the receivers; arguments as of `path_patching.path_effects`.

    Returns:
        `effect` `[batch, layer, head]`, 0 where no path leads from a sender; `change` `[batch, layer, head]`, the
        squared size of what the sender changes in the receivers.
    """
    top = max(receiving_layers(receivers))
    heads_of = {layer: heads for layer, heads in enumerate(senders) if heads and layer < top}
    none = torch.zeros(len(clean["last"]), 1 + sum(map(len, heads_of.values())), device=clean["last"].device)
    effects, changes = none, none.clone()
    if heads_of:
        passes = both_passes(model, anatomy, clean, source, top, kept)
        with torch.no_grad():
            state = at_position(anatomy, passes, clean["position"], source["position"], top)
            received, _ = sweep_in_pieces(model, anatomy, state, heads_of, receivers, clean["answers"], gib, {})
        for layer, slope in slopes_along_receivers(model, anatomy, clean, passes, receivers, gib).items():
            # The first variant's sender is left alone: what it gives is the clean value, rounded as the others' are.
            change = (received[layer] - received[layer][:, :1]).flatten(2).float().to(none.device)
            effects[:, : change.shape[1]] += (change * slope[:, None].float().to(none.device)).sum(-1)
            changes[:, : change.shape[1]] += change.square().sum(-1)
    return {
        "effect": scatter_effects(anatomy, effects, heads_of)["effect"],
        "change": scatter_effects(anatomy, changes, heads_of)["effect"],
    }


def slopes_along_receivers(
    model: Any, anatomy: Anatomy, clean: Prompts, passes: Passes, receivers: Receivers, gib: float | None
) -> dict[int, Float[Tensor, "batch width"]]:
    """Slope of the log probability of the right answer along the receivers' values in the clean run.

    Prompts whose suffixes are equally long go together, as many as the memory budget allows.
    """
    lengths = (clean["last"] - clean["position"] + 1).cpu()
    slopes: dict[int, Tensor] = {}
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()

        def work(numbers: Tensor, rows: Tensor = rows, length: int = length) -> dict[int, Tensor]:
            chosen = rows[numbers].to(clean["last"].device)
            return suffix_slopes(model, anatomy, clean, passes, receivers, chosen, length)

        pieces, _ = in_pieces(len(rows), length, gib, clean["last"].device, work)
        for layer in pieces[0]:
            found = torch.cat([piece[layer] for piece in pieces])
            every = slopes.setdefault(layer, found.new_zeros(len(lengths), found.shape[1]))
            every[rows.to(every.device)] = found
    return slopes


def suffix_slopes(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    passes: Passes,
    receivers: Receivers,
    rows: Int[Tensor, " row"],
    length: int,
) -> dict[int, Float[Tensor, "batch width"]]:
    """The slopes of some prompts, whose suffixes have so many tokens."""
    reading, device = receiving_layers(receivers), rows.device
    slots = clean["position"][rows, None] + torch.arange(length, device=device)
    stream = passes["clean"]["streams"][reading[0]]
    layout = lay_out(anatomy, clean, rows, slots[:, None], 1, stream.dtype)
    leaves: dict[int, Tensor] = {}

    def leaf(layer: int) -> Visit:
        """A visit that puts a leaf in the receivers' place."""

        def put_leaf(values: Tensor) -> Tensor:
            """The projection's output, with a leaf of autograd in place of the receivers at the first slot."""
            columns = receiver_columns(anatomy, receivers, layer, values.device)
            leaves[layer] = values[:, 0, columns].detach().requires_grad_(True)
            replaced = values.clone()
            put(replaced, torch.zeros_like(rows)[:, None], columns, leaves[layer][:, None])
            return replaced

        return put_leaf

    def answered(hidden: Tensor) -> Tensor:
        return answer_probability(unembed(model, anatomy, hidden), clean["answers"][rows])

    cache = prefix_cache(passes["clean"], layout, reading[0])
    visits = {layer: {receivers["component"]: leaf(layer)} for layer in reading}
    with torch.enable_grad():
        probability = rerun(
            model, anatomy, layout, cache, reading[0], lambda: at_slots(stream, layout), visits, answered
        )
        found = torch.autograd.grad(probability.log().sum(), [leaves[layer] for layer in reading])
    return dict(zip(reading, found, strict=True))
