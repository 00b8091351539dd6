"""What a model answers with some of its activations replaced, and the activations of another run that replace them.

Replaced: the patched sites. Recomputed: everything after them. Frozen: nothing; or, where z is *held*, every z outside
the last token, at the model's own value, so that nothing but the live heads carries a change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, at
from entitrack.engine.answers import Prompts, Verdict, verdict
from entitrack.engine.branches import Branch, branch_verdicts
from entitrack.engine.runs import logits_with, look, read_z, run_prompts
from entitrack.engine.shared_prefixes import shareable
from entitrack.engine.sites import Patch, Site, Visit, Visits, columns_of, put, read, replace


def answer(model: Any, anatomy: Anatomy, prompts: Prompts) -> dict[str, Tensor]:
    """The model's own `prediction` and `probability`, `[batch]`. Nothing is frozen, recomputed or replaced."""
    own = verdict(look(model, anatomy, prompts, {}), prompts["answers"])
    return {"prediction": own["prediction"], "probability": own["probability"]}


def answer_logits(model: Any, anatomy: Anatomy, prompts: Prompts) -> dict[str, Tensor]:
    """What `answer` returns, and `logits` `[batch, offered]`, float32, of the right answer and then of its rivals."""
    logits = look(model, anatomy, prompts, {}).float()
    offered = torch.cat([prompts["answers"][:, None], prompts["rivals"]], 1).to(logits.device)
    own = verdict(logits, prompts["answers"])
    return {
        "prediction": own["prediction"],
        "probability": own["probability"],
        "logits": logits.gather(1, offered),
    }


def read_sites(model: Any, anatomy: Anatomy, prompts: Prompts, sites: Sequence[Site]) -> dict[str, Any]:
    """Activations, and the model's own answers.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        sites: What to read.

    Returns:
        `values`: what each site has, `[batch, head, d_head]`, without heads `[batch, d_model]`, with an axis `token`
        after `batch` where it is all that is before a position; and what `answer` returns.
    """
    values: dict[int, Tensor] = {}
    own = verdict(look(model, anatomy, prompts, read_visits(anatomy, sites, values)), prompts["answers"])
    return {"values": [values[number] for number in range(len(sites))], **own}


def answer_patched(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    patches: Sequence[Patch],
    variants: Sequence[Sequence[int]],
    live: Sequence[Sequence[Site]] | None = None,
    gib: float | None = None,
) -> dict[str, Tensor]:
    """Answers with sites replaced, for several sets of them.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        patches: What is replaced, and by what.
        variants: For each variant the numbers of its patches; with none, the model is itself.
        live: For each variant the sites of `z` that are recomputed while every other z outside the last token is held;
            None holds nothing.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        `prediction` and `probability` `[variant, batch]`.
    """
    if shareable(anatomy) and not any(patch.get("before") for patch in patches):
        results = _branched(model, anatomy, prompts, patches, variants, live, gib)
    else:
        results = _run_whole(model, anatomy, prompts, patches, variants, live)
    return {
        "prediction": torch.stack([result["prediction"] for result in results]),
        "probability": torch.stack([result["probability"] for result in results]),
    }


def _run_whole(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    patches: Sequence[Patch],
    variants: Sequence[Sequence[int]],
    live: Sequence[Sequence[Site]] | None,
) -> list[Verdict]:
    """A whole pass for every variant: what is replaced stands everywhere before a position, or layers are unknown."""
    held = None if live is None else read_z(model, anatomy, prompts, range(anatomy["n_layers"]))
    results = []
    for number, chosen in enumerate(variants):
        visits = patch_visits(anatomy, [patches[index] for index in chosen])
        if live is not None and held is not None:
            hold(anatomy, visits, held, live[number], prompts["last"])
        results.append(verdict(logits_with(model, anatomy, prompts, visits), prompts["answers"]))
    return results


def _branched(
    model: Any,
    anatomy: Anatomy,
    prompts: Prompts,
    patches: Sequence[Patch],
    variants: Sequence[Sequence[int]],
    live: Sequence[Sequence[Site]] | None,
    gib: float | None,
) -> list[Verdict]:
    """One run of the model as it is, off which every variant branches where its first patch is."""
    firsts = [min((patches[index]["layer"] for index in chosen), default=None) for chosen in variants]
    streams = {first for first in firsts if first is not None}
    z = range(anatomy["n_layers"]) if live is not None else ()
    run = run_prompts(model, anatomy, prompts, streams, z, cached=bool(streams))
    branches: list[Branch] = []
    for number, (chosen, first) in enumerate(zip(variants, firsts, strict=True)):
        if first is None:
            continue
        here, alive = [patches[index] for index in chosen], [] if live is None else live[number]
        places = torch.stack([site["position"] for site in (*here, *alive)])
        held = None if live is None else {layer: z for layer, z in run["z"].items() if layer >= first}
        visits = _slot_visits(anatomy, prompts, here, alive, held)
        branches.append({"first": first, "places": places, "visits": visits})
    answered = iter(branch_verdicts(model, anatomy, prompts, run, branches, gib))
    own = verdict(run["logits"], prompts["answers"])
    return [own if first is None else next(answered) for first in firsts]


def _slot_visits(
    anatomy: Anatomy,
    prompts: Prompts,
    patches: Sequence[Patch],
    live: Sequence[Site],
    held: dict[int, Float[Tensor, "batch token width"]] | None,
) -> Callable[[Int[Tensor, " row"], Int[Tensor, "row place"]], Visits]:
    """Visits that put patches in, and hold z, at the slots of a branch."""

    def visits(rows: Tensor, slots: Tensor) -> Visits:
        """The visits of some rows, whose places are counted from their first slot."""

        def moved(site: Any) -> Any:
            return {**site, "position": site["position"][rows] - slots[:, 0]}

        def values(patch: Patch) -> Tensor:
            return patch["values"] if len(patch["values"]) == 1 else patch["values"][rows.to(patch["values"].device)]

        here: Any = [{**moved(patch), "values": values(patch)} for patch in patches]
        found = patch_visits(anatomy, here)
        if held is not None:
            there = {layer: z[rows.to(z.device)[:, None], slots.to(z.device)] for layer, z in held.items()}
            hold(anatomy, found, there, [moved(site) for site in live], prompts["last"][rows] - slots[:, 0])
        return found

    return visits


def by_place(sites: Sequence[Site]) -> list[tuple[int, str, list[int]]]:
    """Numbers of sites by layer and component."""
    places: dict[tuple[int, str], list[int]] = {}
    for number, site in enumerate(sites):
        places.setdefault((site["layer"], site["component"]), []).append(number)
    return [(layer, component, numbers) for (layer, component), numbers in places.items()]


def read_visits(anatomy: Anatomy, sites: Sequence[Site], values: dict[int, Tensor]) -> dict[int, dict[str, Visit]]:
    """Visits that write what each site has into `values`, by its number."""
    visits: dict[int, dict[str, Visit]] = {}
    for layer, component, numbers in by_place(sites):

        def look(whole: Tensor, numbers: list[int] = numbers) -> None:
            values.update({number: read(anatomy, sites[number], whole) for number in numbers})

        visits.setdefault(layer, {})[component] = look
    return visits


def patch_visits(anatomy: Anatomy, patches: Sequence[Patch]) -> dict[int, dict[str, Visit]]:
    """Visits that put patches in."""
    visits: dict[int, dict[str, Visit]] = {}
    for layer, component, numbers in by_place(patches):

        def patch(whole: Tensor, here: Sequence[Patch] = tuple(patches[number] for number in numbers)) -> Tensor:
            return replace(anatomy, whole, here)

        visits.setdefault(layer, {})[component] = patch
    return visits


def hold(
    anatomy: Anatomy,
    visits: dict[int, dict[str, Visit]],
    held: dict[int, Float[Tensor, "batch token width"]],
    live: Sequence[Site],
    last: Int[Tensor, " batch"],
) -> None:
    """Add visits that hold z, of every layer, outside the last token and the live sites."""
    for layer, values in held.items():

        def keep(z: Tensor, own: Tensor = values, layer: int = layer) -> Tensor:
            """The held z, but for the live sites and the last token."""
            kept = own.clone()
            for site in [site for site in live if site["layer"] == layer]:
                columns = columns_of(anatomy, site, z)
                put(kept, site["position"][:, None], columns, read(anatomy, site, z).flatten(1)[:, None])
            rows = torch.arange(len(z), device=z.device)
            kept[rows, last.to(z.device)] = at(z, last)
            return kept

        visits.setdefault(layer, {})["z"] = keep
