"""Components without heads, ablated at one position a prompt: what the model answers without what a layer does there.

Replaced: one component of one layer at one position. Recomputed: everything after it. Frozen: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Outcomes, Prompts, outcomes, variants_first
from entitrack.engine.patching import patch_visits, read_visits
from entitrack.engine.runs import logits_with, look, show
from entitrack.engine.sites import Site, Visit, Visits


class Fills(TypedDict, total=False):
    """What ablated components become: `values`, the same for every prompt; or other prompts' own, `tokens` and `mask`.

    With neither it is nothing: zeros.
    """

    values: Float[Tensor, "component layer token d_model"]
    tokens: Int[Tensor, "batch token"]
    mask: Int[Tensor, "batch token"]


def total_components(
    model: Any, anatomy: Anatomy, prompts: dict[str, Tensor], components: Sequence[str]
) -> dict[str, Tensor]:
    """Sums of components over prompts of one length, at every token index. Nothing is frozen, recomputed or replaced.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: `tokens` and `mask` `[batch, token]`, without padding.
        components: Names of components without heads.

    Returns:
        `total` `[component, layer, token, d_model]`, float32.
    """
    totals: dict[str, list[Tensor]] = {name: [] for name in components}

    def add(name: str) -> Any:
        return lambda values: totals[name].append(values.float().sum(0))

    visits = {name: add(name) for name in components}
    show(model, anatomy, prompts, {layer: visits for layer in range(anatomy["n_layers"])})
    device = totals[components[0]][0].device
    return {"total": torch.stack([torch.stack([one.to(device) for one in totals[name]]) for name in components])}


def answer_ablated(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    fill: Fills,
    positions: Int[Tensor, "role batch"],
    components: Sequence[str],
) -> Outcomes:
    """What the model answers with each component of each layer ablated at each position.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts, with `rivals`, padded on the right if at all; of one length unless zeros are put in.
        fill: What ablated components become, at the same token index.
        positions: Where they are ablated, one position at a time.
        components: Names of components without heads.

    Returns:
        Outcomes `[variant, batch]`: the model as it is, then component by component, layer by layer, position by
        position.
    """
    sites: list[Site] = [
        {"component": component, "layer": layer, "position": position}
        for component in components
        for layer in range(anatomy["n_layers"])
        for position in positions.unbind(0)
    ]
    values = fill_sites(model, anatomy, prompts, fill, components, sites)
    streams: dict[int, Tensor] = {}
    again = anatomy.get("elsewhere", False)  # streams that cross twice cost more than running the layers again
    clean = look(model, anatomy, prompts, {} if again else keep_streams(anatomy, streams))
    answered = [outcomes(clean[:, None], prompts)]
    for number, site in enumerate(sites):
        patch: Any = {**site, "values": values[number]}
        first = 0 if again else site["layer"]  # below it the run is the clean one
        logits = logits_with(model, anatomy, prompts, patch_visits(anatomy, [patch]), first, streams.get(first))
        answered.append(outcomes(logits[:, None], prompts))
    return variants_first(answered)


def keep_streams(anatomy: Anatomy, streams: dict[int, Tensor]) -> Visits:
    """Visits that write the stream at the start of each layer into `streams`."""

    def keep(layer: int) -> Visit:
        return lambda stream: streams.update({layer: stream})

    return {layer: {"resid_pre": keep(layer)} for layer in range(anatomy["n_layers"])}


def fill_sites(
    model: Any, anatomy: Anatomy, prompts: Prompts, fill: Fills, components: Sequence[str], sites: Sequence[Site]
) -> Mapping[int, Float[Tensor, "#batch d_model"]]:
    """What each site becomes, by its number."""
    if "values" in fill:
        means = [fill["values"][components.index(site["component"]), site["layer"]] for site in sites]
        return {number: mean[sites[number]["position"].to(mean.device)] for number, mean in enumerate(means)}
    values: dict[int, Tensor] = {}
    if "tokens" in fill:
        show(model, anatomy, fill, read_visits(anatomy, sites, values))
        return values
    one: Any = {"tokens": prompts["tokens"][:1], "mask": prompts["mask"][:1]}
    of_one: list[Any] = [{**site, "position": site["position"][:1]} for site in sites]
    show(model, anatomy, one, read_visits(anatomy, of_one, values))
    return {number: torch.zeros_like(value) for number, value in values.items()}
