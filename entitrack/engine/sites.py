"""What is read and replaced in a model, said as data.

A *component* is something that a layer computes, in this order: `resid_pre`, the stream at its start; `q`, `k`, `v`, as
their projections give them; `z`, what `o_proj` takes; `attn_out`, what attention adds to the stream; `resid_mid`, the
stream after it; `mlp_out`, what the MLP adds. `q`, `k`, `v` and `z` have heads, side by side in columns; others have
none. A *site* is a component of a layer at one position a prompt; a *patch* is a site and what it becomes. *Visits* are
functions that are shown a component while a model runs, and may say what it becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.core.components import WITH_HEADS
from entitrack.engine.anatomy import Anatomy, head_columns, layer_at, part, projection
from entitrack.engine.elsewhere import give_back

Visit = Callable[[Tensor], Any]
"""Takes a component `[row, token, width]`, all heads side by side, and gives what it becomes, None to leave it. It does
not write to what it is given."""

Visits = Mapping[int, Mapping[str, Visit]]
"""Layer -> component -> its visit."""


class Site(TypedDict):
    """A component of a layer at one position a prompt, or everywhere before it."""

    component: str
    layer: int
    heads: NotRequired[list[int]]
    """Query heads of `q` and `z`, KV groups of `k` and `v`; left out of components without heads."""
    position: Int[Tensor, " batch"]
    before: NotRequired[bool]
    """At all positions before it instead (`k` and `v`: what is read from there)."""


class Patch(TypedDict):
    """A site and what it becomes, whatever that is: another model's or prompt's value, a mean, zeros."""

    component: str
    layer: int
    heads: NotRequired[list[int]]
    position: Int[Tensor, " batch"]
    before: NotRequired[bool]
    values: Float[Tensor, "..."]
    """As `read` gives them, `[batch, ...]`, or one for all prompts, `[1, ...]`."""


def columns_of(
    anatomy: Anatomy, site: Site | Patch, values: Float[Tensor, "batch token width"]
) -> Int[Tensor, " column"]:
    """Where a site is in the columns of its component."""
    if site["component"] not in WITH_HEADS:
        return torch.arange(values.shape[2], device=values.device)
    return head_columns(anatomy, site["component"], values.device)[site["heads"]].flatten()


def read(anatomy: Anatomy, site: Site, values: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch ..."]:
    """What a site has in its component: `[batch, (token,) head, d_head]`, without heads `[batch, (token,) d_model]`."""
    if not site.get("before"):
        rows = torch.arange(values.shape[0], device=values.device)
        values = values[rows, site["position"].to(values.device)]
    if site["component"] not in WITH_HEADS:
        return values
    return values[..., head_columns(anatomy, site["component"], values.device)[site["heads"]]]


def replace(
    anatomy: Anatomy, values: Float[Tensor, "batch token width"], patches: Sequence[Patch]
) -> Float[Tensor, "batch token width"]:
    """A copy of a component with patches of it in their places."""
    replaced = values.clone()
    for patch in patches:
        columns = columns_of(anatomy, patch, values)
        position, new = patch["position"].to(values.device), patch["values"].to(values)
        if patch.get("before"):
            new = new.reshape(len(new), -1, len(columns))
            before = torch.arange(values.shape[1], device=values.device)[None] < position[:, None]
            replaced[:, :, columns] = torch.where(before[:, :, None], new, replaced[:, :, columns])
        else:
            put(replaced, position[:, None], columns, new.reshape(len(new), 1, len(columns)))
    return replaced


def put(
    values: Float[Tensor, "row token width"],
    places: Int[Tensor, "#row place"],
    columns: Int[Tensor, "#place column"] | Int[Tensor, " column"],
    new: Float[Tensor, "#row place column"],
) -> None:
    """Write some columns at some places of every row, in place."""
    rows = torch.arange(values.shape[0], device=values.device)[:, None, None]
    values[rows, places.to(values.device)[..., None], columns] = new.to(values)


def visit_layer(model: Any, anatomy: Anatomy, layer: int, visits: Mapping[str, Visit]) -> None:
    """Show a layer's components to their visits, in the order in which they are computed; to be called in a trace."""
    resid_pre = visit_stream(model, anatomy, layer, visits) if {"resid_pre", "resid_mid"} & set(visits) else None
    visit_parts(model, anatomy, layer, visits, resid_pre)


def visit_stream(
    model: Any, anatomy: Anatomy, layer: int, visits: Mapping[str, Visit]
) -> Float[Tensor, "row token d_model"]:
    """The stream at the start of a layer, after its visit if there is one."""
    module = layer_at(model, anatomy, layer)
    resid_pre = module.input
    changed = visits["resid_pre"](resid_pre) if "resid_pre" in visits else None
    if changed is None:
        return resid_pre
    module.input = changed
    return changed


def visit_parts(
    model: Any, anatomy: Anatomy, layer: int, visits: Mapping[str, Visit], resid_pre: Tensor | None = None
) -> None:
    """Show what comes after the start of a layer; `resid_mid` needs the stream there."""
    _visit_projections(model, anatomy, layer, visits)
    if "z" in visits:
        o_proj = part(model, anatomy, layer, "o_proj")
        z = o_proj.input
        changed = visits["z"](z)
        if changed is not None:
            give_back(anatomy, o_proj, "input", z, changed)
    if {"attn_out", "resid_mid"} & set(visits):
        _visit_attention(model, anatomy, layer, visits, resid_pre)
    if "mlp_out" in visits:
        mlp = part(model, anatomy, layer, "post_mlp_norm" if anatomy["post_mlp_norm"] else "mlp")
        added = mlp.output
        changed = visits["mlp_out"](added)
        if changed is not None:
            give_back(anatomy, mlp, "output", added, changed)


def _visit_attention(
    model: Any, anatomy: Anatomy, layer: int, visits: Mapping[str, Visit], resid_pre: Tensor | None
) -> None:
    """Show what attention adds, then the stream after it, which has what was made of the first."""
    module = part(model, anatomy, layer, "post_attention_norm" if anatomy["post_attention_norm"] else "o_proj")
    added = module.output
    became = visits["attn_out"](added) if "attn_out" in visits else None
    became = added if became is None else became
    # No module computes the stream after attention, so what attention adds is changed by as much.
    changed = visits["resid_mid"](resid_pre + became) if "resid_mid" in visits else None
    became = became if changed is None else changed - resid_pre
    if became is not added:
        module.output = became


def _visit_projections(model: Any, anatomy: Anatomy, layer: int, visits: Mapping[str, Visit]) -> None:
    """Show q, k and v; where one module computes several, its output is reached for once."""
    for path in dict.fromkeys(anatomy["projections"].values()):
        shown = [visits[name] for name in ("q", "k", "v") if anatomy["projections"][name] == path and name in visits]
        if not shown:
            continue
        name = next(name for name in ("q", "k", "v") if anatomy["projections"][name] == path)
        module = projection(model, anatomy, layer, name)
        values = module.output
        became = values
        for visit in shown:
            changed = visit(became)
            became = became if changed is None else changed
        if became is not values:
            give_back(anatomy, module, "output", values, became)
