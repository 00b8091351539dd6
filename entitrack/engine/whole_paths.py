"""Path patching where no cache can be handed in and modules are called in traces alone: see `path_patching`.

1. One run over the clean prompts and one over the counterfactual ones: what the sweep takes, at the senders' position.
2. The sweep of one-token MLPs is the same; its modules are called within a trace.
3. What the changed receivers do is found with the suffixes as slots behind their prompts (`slots`).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, at
from entitrack.engine.answers import Prompts, answer_probability
from entitrack.engine.elsewhere import in_trace, stream_dtype
from entitrack.engine.layout import lay_out
from entitrack.engine.memory import Measured
from entitrack.engine.passes import SourcePrompts, read_source
from entitrack.engine.path_patching import SweepState, no_effects, scatter_effects, sweep_in_pieces
from entitrack.engine.receivers import Receivers, receiver_columns, receiving_layers
from entitrack.engine.runs import logits_with
from entitrack.engine.sites import Visit, put
from entitrack.engine.slots import run_behind, slot_passes

TOKEN_BYTES = 64
"""What a token of the sweep is taken to need in bytes, by unit of the stream's width; it cannot be measured here."""


def path_effects(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    source: SourcePrompts,
    senders: list[list[int]],
    receivers: Receivers,
    gib: float | None = None,
    known: dict[str, float] | None = None,
    kept: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    """See `path_patching.path_effects`; memory is not measured, and nothing is kept."""
    top = max(receiving_layers(receivers), default=anatomy["n_layers"])
    heads_of = {layer: heads for layer, heads in enumerate(senders) if heads and layer < top}
    if not heads_of:
        return no_effects(model, anatomy, clean)
    source_z = read_source(model, anatomy, source, list(range(top)))
    seen: dict[tuple[int, str], Tensor] = {}

    def keep(layer: int, name: str) -> Visit:
        return lambda values: seen.update({(layer, name): at(values, clean["position"])})

    visits = {layer: {"z": keep(layer, "z")} for layer in range(top)}
    visits[0]["resid_pre"] = keep(0, "resid_pre")
    probability = answer_probability(logits_with(model, anatomy, clean, visits), clean["answers"])
    state: SweepState = {
        "resid_pre": [seen[0, "resid_pre"]],
        "z": [seen[layer, "z"] for layer in range(top)],
        "source_z": [source_z[layer] for layer in range(top)],
    }
    assumed: Measured = {"bytes_per_token": float(TOKEN_BYTES * seen[0, "resid_pre"].shape[-1])}
    with torch.no_grad():
        swept = in_trace(
            model,
            anatomy,
            lambda: sweep_in_pieces(model, anatomy, state, heads_of, receivers, clean["answers"], gib, assumed),
        )
        patched = swept[0]
        if receivers["component"] != "logits":
            patched = received_probability(model, anatomy, clean, patched, receivers, gib)
    change = patched.to(probability.device) / probability[:, None] - 1
    return {
        **scatter_effects(anatomy, change, heads_of),
        "probability": probability,
        "peak_bytes": torch.tensor([swept[1]]),
        "bytes_per_token": torch.tensor([assumed["bytes_per_token"], 0.0]),
    }


def received_probability(
    model: Any,
    anatomy: Anatomy,
    clean: Prompts,
    received: dict[int, Float[Tensor, "batch _ receiver d_head"]],
    receivers: Receivers,
    gib: float | None,
) -> Float[Tensor, "batch variant"]:
    """Probability of the right answer for every variant, see `receivers.received_probability`."""
    dtype, position, width = stream_dtype(model, anatomy), clean["position"], clean["tokens"].shape[1]
    numbers = torch.arange(received[max(received)].shape[1], device=position.device)
    patched = torch.empty(len(position), len(numbers), device=position.device)
    lengths = clean["last"] - position + 1
    for length in lengths.unique().tolist():
        members = (lengths == length).nonzero().flatten()
        for part, rows in slot_passes(model, anatomy, numbers, members, length, width, gib):
            slots = (position[rows, None] + torch.arange(length, device=position.device))[:, None]
            layout = lay_out(anatomy, clean, rows, slots, len(part), dtype)
            visits = receiving_visits(anatomy, received, receivers, part, rows, layout["shape"])
            logits = run_behind(model, anatomy, clean, layout, visits)
            found = answer_probability(logits, clean["answers"][rows]).to(patched.device)
            patched[rows[:, None], part[None]] = found
    return patched


def receiving_visits(
    anatomy: Anatomy,
    received: dict[int, Float[Tensor, "batch _ receiver d_head"]],
    receivers: Receivers,
    variants: Int[Tensor, " variant"],
    rows: Int[Tensor, " row"],
    shape: tuple[int, int, int, int],
) -> dict[int, dict[str, Visit]]:
    """Visits that give receivers, at the first slot of every variant, what its sender gives them.

    A layer has values of the variants whose senders are below it; the others keep their own.
    """
    _, lanes, pack, length = shape
    filled = torch.cat([variants, variants[-1:].expand(lanes * pack - len(variants))]).view(lanes, pack)
    firsts = torch.arange(0, length * pack, length, device=variants.device)[None]
    lane_rows, lane_variants = rows.repeat_interleave(lanes)[:, None], filled.repeat(len(rows), 1)

    def receive(layer: int) -> Visit:
        """What the receivers' component of a layer becomes."""
        new = received[layer]
        reached = lane_variants < new.shape[1]
        index = lane_rows.to(new.device), lane_variants.clamp(max=new.shape[1] - 1).to(new.device)

        def visit(values: Tensor) -> Tensor:
            """The projection's output, with every variant's receivers at its own token."""
            columns = receiver_columns(anatomy, receivers, layer, values.device)
            own = values[:, firsts[0].to(values.device)][..., columns]
            given = torch.where(reached[..., None].to(values.device), new[index].flatten(2).to(values), own)
            replaced = values.clone()
            put(replaced, firsts, columns, given)
            return replaced

        return visit

    return {layer: {receivers["component"]: receive(layer)} for layer in received}
