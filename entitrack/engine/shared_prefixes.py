"""Prompts that begin alike, such as the questions of one context: their beginnings go through the model once.

1. `find_shared`: every prompt runs its last few tokens for itself, equally many of them, so that they stand in one
   batch whatever the padding; of prompts that agree in all that is before, one is the *stem* of the others. How many
   tokens that is, is what costs the least; where another pass is not worth it, nothing is shared.
2. `run_stems`: the stems' beginnings, once each; their keys and values are kept, and what visits ask for.
3. `run_ends`: the last tokens of every prompt, over its stem's keys and values. Visits are shown whole prompts, stem
   and end side by side, as if they had been run so.

Nothing is frozen or approximated: attention is causal, so that what a beginning computes does not depend on its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, part, unembed
from entitrack.engine.answers import forward_inputs
from entitrack.engine.caches import cache_entries, empty_cache, filled_cache
from entitrack.engine.layout import lay_out
from entitrack.engine.pass_cost import pass_in_tokens
from entitrack.engine.rerun import run_slots
from entitrack.engine.sites import Visit, Visits, visit_layer

AFTER_ATTENTION = {"z", "attn_out", "resid_mid", "mlp_out"}
"""Components that a layer has only once its keys and values are in the cache."""


class Shared(TypedDict):
    """How the prompts of a batch go through the model together."""

    stems: Int[Tensor, " stem"]
    """The prompts whose beginnings are run."""
    stem_of: Int[Tensor, " batch"]
    """For each prompt, the number of its stem."""
    starts: Int[Tensor, " batch"]
    """The first token that each prompt runs for itself."""
    length: int
    """How many tokens that is: up to the last that is no padding."""
    order: Int[Tensor, "batch token"]
    """Where each token is in its stem and end, side by side; padding after the end has its last token."""


Seen = dict[tuple[int, str], Tensor]
"""(layer, component) -> what the stems have of it, `[stem, token, width]`."""


def shareable(anatomy: Anatomy) -> bool:
    """Whether a model's runs may go on from keys and values: its layers are described in full, and are here."""
    return anatomy["factorised"] and not anatomy.get("elsewhere")


def find_shared(anatomy: Anatomy, prompts: Any) -> Shared | None:
    """How prompts, which have `tokens` and `mask`, share their beginnings; None where that does not pay.

    It takes a model whose anatomy is described in full.
    """
    mask = prompts["mask"].cpu().bool()
    batch, width = mask.shape
    if batch == 1 or not shareable(anatomy):
        return None
    tokens = prompts["tokens"].cpu().masked_fill(~mask, -1)
    alike = common_beginnings(tokens)
    last = width - 1 - mask.flip(1).int().argmax(1)
    room = int((last - mask.int().argmax(1)).min())
    others = alike.masked_fill(torch.eye(batch, dtype=torch.bool), 0).amax(1)
    best: tuple[int, Shared] | None = None
    for length in (last - others + 1).clamp(min=1).unique().tolist():
        if length > room:
            continue
        starts = last - length + 1
        stems, stem_of = group(alike, starts)
        cost = len(stems) * int(starts.max()) + batch * length
        if best is None or cost < best[0]:
            order = torch.arange(width).expand(batch, -1)
            ends = (int(starts.max()) + order - starts[:, None]).clamp(max=int(starts.max()) + length - 1)
            order = torch.where(order < starts[:, None], order, ends)
            best = cost, {"stems": stems, "stem_of": stem_of, "starts": starts, "length": length, "order": order}
    if best is None or batch * width - best[0] < pass_in_tokens(anatomy):
        return None
    device = prompts["tokens"].device
    on_device: Any = {name: value.to(device) if name != "length" else value for name, value in best[1].items()}  # type: ignore[attr-defined]
    return on_device


def common_beginnings(tokens: Int[Tensor, "batch token"]) -> Int[Tensor, "batch batch"]:
    """How many tokens any two rows have in common before they differ."""
    columns = []
    for row in tokens:
        differs = tokens != row
        columns.append(torch.where(differs.any(1), differs.int().argmax(1), tokens.shape[1]))
    return torch.stack(columns, 1)


def group(
    alike: Int[Tensor, "batch batch"], starts: Int[Tensor, " batch"]
) -> tuple[Int[Tensor, " stem"], Int[Tensor, " batch"]]:
    """The stems, and the number of each prompt's: one that agrees with it in all tokens before the prompt's start."""
    # A stem has to be as long as any beginning that it stands for. Of the prompts that one may join, the first in this
    # order may itself join none before it, since what joins two is transitive along it.
    order = starts.argsort(descending=True, stable=True)
    joins = alike[order][:, order] >= starts[order][:, None]
    first = order[joins.int().argmax(1)][order.argsort()]
    return first.unique(return_inverse=True)


def run_shared(
    model: Any,
    anatomy: Anatomy,
    prompts: Any,
    shared: Shared,
    visits: Visits,
    fills: Sequence[Float[Tensor, "1 token width"]] | None = None,
    logits: bool = True,
) -> tuple[Any, Float[Tensor, "batch vocab"] | None]:
    """Run prompts by their stems and ends.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts; `last` is needed for logits.
        shared: How they share their beginnings.
        visits: What is shown what, as of whole prompts `[batch, token, width]`; they change nothing.
        fills: By layer, what every head gives in place of its own z, after it was shown; None to leave z alone.
        logits: Run to the end; False ends with the last layer that is visited.

    Returns:
        The cache, whose keys and values are those of stem and end side by side; and the logits at the last token.
    """
    top = anatomy["n_layers"] - 1 if logits else max(visits)
    with torch.no_grad():
        cache, seen = run_stems(model, anatomy, prompts, shared, visits, fills, top)
    return run_ends(model, anatomy, prompts, shared, cache, shown_whole(shared, visits, seen), fills, logits)


def run_stems(
    model: Any,
    anatomy: Anatomy,
    prompts: Any,
    shared: Shared,
    visits: Visits,
    fills: Sequence[Tensor] | None,
    top: int,
) -> tuple[Any, Seen]:
    """The beginnings, up to the attention of layer `top`: a cache, and what was visited."""
    end = int(shared["starts"].max())
    stems = {name: prompts[name][shared["stems"], :end] for name in ("tokens", "mask")}
    cache = empty_cache(model, anatomy, stems["tokens"])
    seen: Seen = {}

    def keep(layer: int, component: str) -> Visit:
        def look(values: Tensor) -> None:
            seen[layer, component] = values.clone()  # some models go on to write into what a projection gives

        return look

    kept = {layer: {name: keep(layer, name) for name in visits.get(layer, {})} for layer in range(top + 1)}
    filled = with_fills(kept, None if fills is None else [fill[:, :end] for fill in fills])
    with model.trace({**forward_inputs(stems), "use_cache": True, anatomy["cache"]: cache}) as tracer:
        for layer in range(top + 1):
            visit_layer(model, anatomy, layer, filled[layer])
        if not AFTER_ATTENTION & set(filled[top]):
            part(model, anatomy, top, "o_proj").input  # noqa: B018 - reached, so that keys and values are there
        tracer.stop()
    return cache, seen


def run_ends(
    model: Any,
    anatomy: Anatomy,
    prompts: Any,
    shared: Shared,
    stems: Any,
    visits: Mapping[int, Mapping[str, Visit]],
    fills: Sequence[Tensor] | None,
    logits: bool,
) -> tuple[Any, Float[Tensor, "batch vocab"] | None]:
    """The last tokens of every prompt over its stem's cache; see `run_shared`."""
    rows = torch.arange(len(shared["starts"]), device=shared["starts"].device)
    slots = shared["starts"][:, None] + torch.arange(shared["length"], device=rows.device)
    keys, values = (
        {layer: kept[shared["stem_of"].to(kept.device)] for layer, kept in by_layer.items()}
        for by_layer in cache_entries(stems)
    )
    cache = filled_cache(type(stems), keys, values)
    layout = lay_out(anatomy, prompts, rows, slots[:, None], 1, keys[0].dtype)
    filled = with_fills(visits, None if fills is None else [fill[0][slots.to(fill.device)] for fill in fills])
    ends = prompts["last"] - shared["starts"] if logits else None
    hidden = run_slots(model, anatomy, layout, cache, filled, ends)
    with torch.no_grad():
        return cache, None if hidden is None else unembed(model, anatomy, hidden)


def with_fills(visits: Mapping[int, Mapping[str, Visit]], fills: Sequence[Tensor] | None) -> Visits:
    """The same visits; in every layer z is then filled, if there is something to fill it with."""
    if fills is None:
        return visits

    def fill(layer: int) -> Visit:
        """A visit that sees z as it is, and then leaves what z is filled with."""
        shown = visits.get(layer, {}).get("z")

        def put(z: Tensor) -> Tensor:
            if shown is not None:
                shown(z)
            return fills[layer].to(z).expand_as(z).clone()

        return put

    return {layer: {**visits.get(layer, {}), "z": fill(layer)} for layer in range(len(fills))}


def shown_whole(shared: Shared, visits: Visits, seen: Seen) -> Visits:
    """Visits of ends that show whole prompts to visits."""

    def show(layer: int, component: str) -> Visit:
        def look(values: Tensor) -> None:
            visits[layer][component](whole(shared, seen.pop((layer, component)), values))

        return look

    return {layer: {name: show(layer, name) for name in visits[layer]} for layer in visits}


def whole(
    shared: Shared, before: Float[Tensor, "stem prefix width"], after: Float[Tensor, "batch slot width"]
) -> Float[Tensor, "batch token width"]:
    """Values of whole prompts, from those of stems and of ends."""
    beside = torch.cat([before[shared["stem_of"].to(before.device)], after.to(before.device)], 1)
    return in_order(shared, beside)


def in_order(shared: Shared, beside: Float[Tensor, "batch place ..."]) -> Float[Tensor, "batch token ..."]:
    """Values token by token, from those of stem and end side by side."""
    order = shared["order"].to(beside.device)
    plain = torch.arange(beside.shape[1], device=beside.device)
    if order.shape[1] == beside.shape[1] and bool((order == plain).all()):
        return beside
    return beside[torch.arange(len(order), device=beside.device)[:, None], order]
