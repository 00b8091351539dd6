"""The engine: some variants of some prompts, over a few of their tokens, from some layer on.

1. `runs.run_prompts` runs whole prompts, clean or ablated, and keeps streams, z, keys and values.
2. `layout.lay_out` says which tokens the variants go over, and what these see of that run.
3. `rerun` enters at a layer with a stream that it is given; layers below it are skipped. On the way components are
   shown to visits, which may change them (`sites`).
4. In the last layer only the last slot of every variant goes on, and is read: its logits, its outcomes.

`run_slots` is the same for one variant a prompt of which any component may be visited, in the last layer too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, after_heads, at, find, layer_at, part
from entitrack.engine.elsewhere import argument_names
from entitrack.engine.layout import Layout
from entitrack.engine.sites import Visit, Visits, visit_layer, visit_parts, visit_stream

Enter = Callable[[], Tensor]
"""Gives the stream `[lane, token, d_model]` at the start of the first layer. It is called in the trace, so that it may
use modules."""

Read = Callable[[Tensor], Any]
"""Takes the end of the last layer at every variant's last slot, `[row, variant, d_model]`; called in the trace too."""

Outputs = Callable[[], dict[str, Tensor]]
"""Gives outputs of modules of a layer by their paths, which are then skipped; called in the trace too."""


def rerun(
    model: Any,
    anatomy: Anatomy,
    layout: Layout,
    cache: Any,
    first: int,
    enter: Enter | None,
    visits: Visits,
    read: Read,
    outputs: Outputs | None = None,
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
        outputs: What modules of the first layer give, where that is known.

    Returns:
        What `read` returns.
    """
    rows, lanes, pack, length = layout["shape"]
    top = anatomy["n_layers"] - 1
    ends = torch.arange(length - 1, length * pack, length, device=layout["slots"].device)
    with model.trace(slot_inputs(anatomy, layout, cache), use_cache=True) as tracer:
        stream: Any = enter() if enter is not None else None
        for layer in range(first if first <= top else 0):
            layer_at(model, anatomy, layer).skip(stream)
        for layer in range(first, top):
            known = outputs if layer == first else None
            pass_attention(model, anatomy, layout, layer, visits.get(layer, {}), known)
        if first <= top:
            hidden = last_layer(model, anatomy, layout, visits, outputs if first == top else None, ends)
        else:
            hidden = stream[:, ends.to(stream.device)]
        result = read(hidden.reshape(rows, lanes * pack, -1)[:, : layout["variants"]])
        tracer.stop()
    return result


def slot_inputs(anatomy: Anatomy, layout: Layout, cache: Any) -> dict[str, Any]:
    """Arguments of a forward pass over slots."""
    return {
        "input_ids": layout["input_ids"],
        "position_ids": layout["position_ids"],
        "attention_mask": layout["masks"][anatomy["windows"][-1]],
        anatomy["cache"]: cache,
    }


def run_slots(
    model: Any,
    anatomy: Anatomy,
    layout: Layout,
    cache: Any,
    visits: Visits,
    ends: Int[Tensor, " lane"] | None,
    first: int = 0,
    stream: Float[Tensor, "lane token d_model"] | None = None,
) -> Float[Tensor, "lane d_model"] | None:
    """One pass over the slots of one variant a prompt, all of it.

    Args:
        model: The model.
        anatomy: Its anatomy.
        layout: Where the slots are.
        cache: The prefix from the first layer on; the pass adds to it.
        visits: What is shown what.
        ends: The slot that is wanted; None for none: then the pass ends with the last layer that is visited.
        first: The first layer that runs.
        stream: What enters it; None where it is 0, which the embeddings enter.

    Returns:
        The stream at the end of the last layer, at the ends.
    """
    hidden = None
    with torch.no_grad():
        with model.trace(slot_inputs(anatomy, layout, cache), use_cache=True) as tracer:
            for layer in range(first):
                layer_at(model, anatomy, layer).skip(stream)
            for layer in range(first, anatomy["n_layers"] if ends is not None else max(visits) + 1):
                if anatomy["windows"][layer] != anatomy["windows"][-1]:
                    use_mask(model, anatomy, layer, layout["masks"][anatomy["windows"][layer]])
                visit_layer(model, anatomy, layer, visits.get(layer, {}))
            if ends is not None:
                output: Any = layer_at(model, anatomy, layer).output
                hidden = at(output[0] if isinstance(output, tuple) else output, ends)
            tracer.stop()
    return hidden


def pass_attention(
    model: Any,
    anatomy: Anatomy,
    layout: Layout,
    layer: int,
    visits: Mapping[str, Visit],
    outputs: Outputs | None,
    stream: bool = False,
) -> Any:
    """A layer up to its z: its mask, its visits; the stream at its start where that is asked for."""
    # Modules are reached in the order in which they run: the layer, its projections, o_proj.
    if anatomy["windows"][layer] != anatomy["windows"][-1]:
        use_mask(model, anatomy, layer, layout["masks"][anatomy["windows"][layer]])
    resid_pre = visit_stream(model, anatomy, layer, visits) if stream or "resid_pre" in visits else None
    for path, values in (outputs() if outputs is not None else {}).items():
        find(layer_at(model, anatomy, layer), path).skip(values)
    visit_parts(model, anatomy, layer, visits, resid_pre)
    return resid_pre


def last_layer(
    model: Any, anatomy: Anatomy, layout: Layout, visits: Visits, outputs: Outputs | None, ends: Tensor
) -> Float[Tensor, "lane end d_model"]:
    """The last layer at the ends; its z goes on there alone, so what a visit makes of it is not written back."""
    top = anatomy["n_layers"] - 1
    shown = visits.get(top, {})
    before_z = {name: visit for name, visit in shown.items() if name != "z"}
    stream = pass_attention(model, anatomy, layout, top, before_z, outputs, stream=True)
    z = part(model, anatomy, top, "o_proj").input
    changed = shown["z"](z) if "z" in shown else None
    z = z if changed is None else changed
    return after_heads(model, anatomy, top, stream[:, ends.to(stream.device)], z[:, ends.to(z.device)])


def use_mask(model: Any, anatomy: Anatomy, layer: int, mask: Tensor) -> None:
    """Give one layer an attention mask of its own, where the layer is."""
    module = layer_at(model, anatomy, layer)
    positional, named = module.inputs
    stream = positional[0] if positional else named["hidden_states"]
    mask = mask.to(stream.device)
    place = argument_names(type(module._module).forward).index("attention_mask") - 1  # without self
    if place < len(positional):
        module.inputs = ((*positional[:place], mask, *positional[place + 1 :]), named)
    else:
        module.inputs = (positional, {**named, "attention_mask": mask})
