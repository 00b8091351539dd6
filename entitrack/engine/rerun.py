"""The engine: some variants of some prompts, over a few of their tokens, from some layer on.

1. `runs.run_prompts` runs whole prompts, clean or ablated, and keeps streams, z, keys and values.
2. `layout.lay_out` says which tokens the variants go over, and what these see of that run.
3. `rerun` enters at a layer with a stream that it is given; layers below it are skipped. On the way components are
   shown to visits, which may change them (`sites`).
4. In the last layer only the last slot of every variant goes on, and is read: its logits, its outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, after_heads, find, layer_at, part
from entitrack.engine.layout import Layout
from entitrack.engine.sites import Visits, visit_parts, visit_stream

Enter = Callable[[], Tensor]
"""Gives the stream `[lane, token, d_model]` at the start of the first layer. It is called in the trace, so that it may
use modules."""

Read = Callable[[Tensor], Any]
"""Takes the end of the last layer at every variant's last slot, `[row, variant, d_model]`; called in the trace too."""


def rerun(
    model: Any,
    anatomy: Anatomy,
    layout: Layout,
    cache: Any,
    first: int,
    enter: Enter | None,
    visits: Visits,
    read: Read,
    outputs: Callable[[], dict[str, Tensor]] | None = None,
) -> Any:
    """One pass over the slots.

    Args:
        model: The model.
        anatomy: Its anatomy.
        layout: Where the variants stand.
        cache: The prefix from the first layer on, see `layout.prefix_cache`; the pass adds to it.
        first: The first layer that runs; `n_layers` where the stream that enters is read as it is.
        enter: What enters it; None where the first layer is 0, which the embeddings enter.
        visits: Functions that `resid_pre`, `q`, `k`, `v` or `z` of a layer are shown to, see `sites`.
        read: What is read off.
        outputs: Gives what modules of the first layer give, by their paths: these are skipped. Called in the trace.

    Returns:
        What `read` returns.
    """
    rows, lanes, pack, length = layout["shape"]
    top, widest = anatomy["n_layers"] - 1, anatomy["windows"][-1]
    ends = torch.arange(length - 1, length * pack, length, device=layout["slots"].device)
    inputs = {
        "input_ids": layout["input_ids"],
        "position_ids": layout["position_ids"],
        "attention_mask": layout["masks"][widest],
        "past_key_values": cache,
    }
    with model.trace(inputs, use_cache=True) as tracer:
        stream = enter() if enter is not None else None
        if first > top:
            hidden = stream[:, ends.to(stream.device)]
        else:
            for layer in range(first):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in range(first, top + 1):
                if anatomy["windows"][layer] != widest:
                    use_mask(model, anatomy, layer, layout["masks"][anatomy["windows"][layer]])
                shown = visits.get(layer, {})
                if layer == top or "resid_pre" in shown:
                    stream = visit_stream(model, anatomy, layer, shown)
                if layer == first and outputs is not None:
                    for path, values in outputs().items():
                        find(layer_at(model, anatomy, layer), path).skip(values)
                # The last layer's z goes on at the ends alone, so it is not written back.
                visit_parts(model, anatomy, layer, {name: shown[name] for name in shown if layer < top or name != "z"})
            z = part(model, anatomy, top, "o_proj").input
            changed = shown["z"](z) if "z" in shown else None
            z = z if changed is None else changed
            hidden = after_heads(model, anatomy, top, stream[:, ends.to(stream.device)], z[:, ends.to(z.device)])
        result = read(hidden.reshape(rows, lanes * pack, -1)[:, : layout["variants"]])
        tracer.stop()
    return result


def use_mask(model: Any, anatomy: Anatomy, layer: int, mask: Tensor) -> None:
    """Give one layer an attention mask of its own."""
    module = layer_at(model, anatomy, layer)
    positional, named = module.inputs
    module.inputs = (positional, {**named, "attention_mask": mask})
