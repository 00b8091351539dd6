"""Runs that differ from one that was done at some places only: from the first of these tokens and layers on.

Recomputed: in every prompt the tokens from its first place on, in the layers from the first one on. Everything else is
as it was, since attention is causal: its keys and values are there, and the stream that enters the first layer.
Branches that start in about one layer go through the model together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy
from entitrack.engine.answers import Prompts, Verdict, unembedded_in_pieces, verdict
from entitrack.engine.caches import Run
from entitrack.engine.layout import at_slots, lay_out, prefix_cache
from entitrack.engine.masks import suffix_jobs
from entitrack.engine.pass_cost import pass_in_tokens
from entitrack.engine.rerun import run_slots
from entitrack.engine.sites import Visit, Visits


class Branch(TypedDict):
    """A run that differs at some places."""

    first: int
    """The first layer where it does."""
    places: Int[Tensor, "place batch"]
    """The tokens where it does."""
    visits: Callable[[Int[Tensor, " row"], Int[Tensor, "row place"]], Visits]
    """What is shown what, and changes it."""


def branch_verdicts(
    model: Any, anatomy: Anatomy, prompts: Prompts, run: Run, branches: Sequence[Branch], gib: float | None
) -> list[Verdict]:
    """Whether prompts are answered, in every branch.

    Args:
        model: The model.
        anatomy: Its anatomy.
        prompts: The prompts.
        run: What they branch off, with the streams that enter the layers where they do.
        branches: The branches.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.
    """
    if not branches:
        return []
    ended: dict[int, Tensor] = {}
    for numbers in go_together(anatomy, prompts, branches):
        found = run_together(model, anatomy, prompts, run, [branches[number] for number in numbers], gib)
        ended.update(zip(numbers, found, strict=True))

    def read(logits: Tensor, rows: slice, _: slice) -> Any:
        return verdict(logits, prompts["answers"][rows])

    # All at once: the matrix of a large vocabulary takes as long for few streams as for many.
    hidden = torch.stack([ended[number] for number in range(len(branches))], 1)
    with torch.no_grad():
        answered = unembedded_in_pieces(model, anatomy, hidden, gib, read)
    pairs = zip(answered["prediction"].unbind(1), answered["probability"].unbind(1), strict=True)
    return [{"prediction": prediction, "probability": probability} for prediction, probability in pairs]


def go_together(anatomy: Anatomy, prompts: Prompts, branches: Sequence[Branch]) -> list[list[int]]:
    """Numbers of branches that go together: where the layers that some run for nothing cost less than a pass."""
    together: list[list[int]] = []
    for number in sorted(range(len(branches)), key=lambda number: branches[number]["first"]):
        first = branches[number]["first"]
        start = branches[together[-1][0]]["first"] if together else 0
        tokens = int((prompts["last"] - first_places(branches[number]) + 1).sum())
        if together and tokens * (first - start) <= pass_in_tokens(anatomy) * (anatomy["n_layers"] - first):
            together[-1].append(number)
        else:
            together.append([number])
    return together


def first_places(branch: Branch) -> Int[Tensor, " batch"]:
    """The first token of each prompt where a branch differs."""
    return branch["places"].amin(0)


def run_together(
    model: Any, anatomy: Anatomy, prompts: Prompts, run: Run, branches: Sequence[Branch], gib: float | None
) -> Float[Tensor, "branch batch d_model"]:
    """The last token's streams at the end of branches, in passes from the first of their layers on."""
    batch, first = len(prompts["last"]), min(branch["first"] for branch in branches)
    lanes: Any = {"last": prompts["last"].repeat(len(branches)), "mask": prompts["mask"].repeat(len(branches), 1)}
    places = torch.cat([first_places(branch) for branch in branches])[None]
    stream = run["streams"][first]
    ended: Tensor | None = None
    for job in suffix_jobs(anatomy, lanes, places, 1, gib):
        members, length = job["rows"].sort().values, job["length"]
        rows = members % batch
        slots = (prompts["last"][rows] - length + 1)[:, None] + torch.arange(length, device=rows.device)
        layout = lay_out(anatomy, prompts, rows, slots[:, None], 1, stream.dtype)
        cache = prefix_cache(run, layout, first)
        visits = side_by_side(branches, members // batch, rows, slots)
        ends = torch.full_like(rows, length - 1)
        hidden = run_slots(model, anatomy, layout, cache, visits, ends, first, at_slots(stream, layout))
        assert hidden is not None
        ended = hidden.new_empty(len(branches) * batch, hidden.shape[1]) if ended is None else ended
        ended[members.to(hidden.device)] = hidden
    assert ended is not None
    return ended.view(len(branches), batch, -1)


def side_by_side(
    branches: Sequence[Branch],
    branch_of: Int[Tensor, " lane"],
    rows: Int[Tensor, " lane"],
    slots: Int[Tensor, "lane place"],
) -> Visits:
    """Visits of lanes that belong to several branches, each branch's lanes next to each other."""
    counts = [int((branch_of == number).sum()) for number in range(len(branches))]
    own = [
        branch["visits"](some, at) if count else {}
        for branch, count, some, at in zip(branches, counts, rows.split(counts), slots.split(counts), strict=True)
    ]

    def show(layer: int, component: str) -> Visit:
        """A visit that shows every branch its own lanes."""

        def change(values: Tensor) -> Tensor:
            """Every branch's lanes as its own visit leaves them."""
            changed = []
            for visits, part in zip(own, values.split(counts), strict=True):
                visit = visits.get(layer, {}).get(component)
                became = visit(part) if visit is not None and len(part) else None
                changed.append(part if became is None else became)
            return torch.cat(changed)

        return change

    layers = sorted({layer for visits in own for layer in visits})
    names = {layer: {name for visits in own for name in visits.get(layer, {})} for layer in layers}
    return {layer: {name: show(layer, name) for name in names[layer]} for layer in layers}
