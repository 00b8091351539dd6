"""Mixing clean and counterfactual z under a mask, at the cost of what the mask can change (paper, section 5).

Replaced: z of given heads at given positions, by `mask * own + (1 - mask) * counterfactual`. Recomputed: from the first
of these layers on, the tokens from the first of these positions to the last. Frozen: the tokens before, which cannot
see it: their keys and values are the clean run's. Several masks go through side by side. A mask of zeros is activation
patching.

Prompts go through the model again from their earliest patched position on, and from behind the attention of the first
patched layer on. What stays the same while masks change is made once: counterfactual z, and the clean run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from entitrack.engine.anatomy import Anatomy, after_heads, head_columns, split_heads
from entitrack.engine.answers import Prompts, unembedded_in_pieces
from entitrack.engine.caches import Run, filled_cache
from entitrack.engine.layout import Layout, at_slots, lanes_and_pack, lay_out, prefix_entries
from entitrack.engine.memory import tokens_at_once
from entitrack.engine.pass_cost import pass_in_tokens
from entitrack.engine.rerun import rerun
from entitrack.engine.runs import read_z, run_prompts
from entitrack.engine.sites import Visit, put


class Group(TypedDict):
    """Heads, and where they are patched and read."""

    heads: list[list[int]]
    """Each `[layer, head]`."""
    positions: Int[Tensor, "head batch"]
    """Where each head's z is replaced in the clean prompts."""
    source_positions: Int[Tensor, "draw head batch"]
    """Where it is read in each draw of counterfactuals."""
    values: NotRequired[Float[Tensor, "draw batch head d_head"]]
    """What is read there, where that is known, such as another model's z."""


class Pairs(TypedDict):
    """Clean prompts with draws of counterfactuals."""

    clean: Prompts
    """Without `answers`."""
    sources: list[Any]
    """`tokens` and `mask` of each draw."""
    targets: Int[Tensor, "draw batch"]
    """The token to be answered."""
    positions: NotRequired[Int[Tensor, "head batch"]]
    """Where there is one group only: see `Group`."""
    source_positions: NotRequired[Int[Tensor, "draw head batch"]]


class Job(TypedDict):
    """Prompts that go through together."""

    rows: Int[Tensor, " row"]
    length: int
    """From so many tokens before the end on."""


class Mixture(TypedDict):
    """Where a layer's heads are mixed in a pass, and with what; each head in every pack, pack by pack."""

    numbers: list[int]
    """The layer's heads in the group."""
    places: Int[Tensor, "lane place"]
    columns: Int[Tensor, "place d_head"]
    source: Float[Tensor, "row variant head d_head"]
    """Counterfactual z."""


class Piece(TypedDict):
    """One pass of a group: all masks for some prompts."""

    layout: Layout
    mixtures: dict[int, Mixture]
    """Layer -> what is mixed; the first is the start layer."""
    stream: Float[Tensor, "lane token d_model"]
    """The start layer's input in the clean run."""
    z: Float[Tensor, "lane token width"]
    """The input of its `o_proj`."""
    after: Float[Tensor, "lane token d_model"]
    """The next layer's input; of the last layer anything, since only its ends are read, which are computed."""
    places: Int[Tensor, "lane place"]
    """Where the start layer's end is computed: at its heads; in the last layer also at the ends."""
    keys: dict[int, Tensor]
    values: dict[int, Tensor]
    """Of the prefix, above the start layer."""


class Prepared(TypedDict):
    """A group that masks can be tried on."""

    pieces: list[Piece]
    cache: Any
    """The class of caches."""
    draws: list[int]
    """For each mask, the number of its draw of counterfactuals."""
    targets: Int[Tensor, "draw batch"]
    own: Int[Tensor, " batch"]
    """The unpatched model's most likely token."""
    gib: float | None
    """Memory budget."""


def masked_answers(
    model: Any,
    anatomy: Anatomy,
    groups: list[Group],
    batch: Pairs,
    masks: list[Float[Tensor, "mask _"]],
    draws: list[int],
    gib: float | None,
) -> dict[str, Tensor]:
    """Answers under fixed masks.

    Args:
        model: The model.
        anatomy: Its anatomy.
        groups: The groups, each patched by itself.
        batch: The prompts.
        masks: For each group, its masks: 1 keeps a head's own z, 0 takes the counterfactual's.
        draws: For each mask, the number of the draw of counterfactuals that it is about.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.

    Returns:
        `prediction` `[group, mask, batch]`, the most likely token; `target_logit` `[group, mask, batch]`, float32;
        `own` `[batch]`, the unpatched model's most likely token.
    """
    predictions, target_logits = [], []
    with torch.no_grad():
        for prepared, mask in zip(prepare(model, anatomy, groups, batch, draws, gib), masks, strict=True):
            prediction, target_logit = answers_under(model, anatomy, prepared, mask)
            predictions.append(prediction)
            target_logits.append(target_logit)
            own = prepared["own"]
    return {"prediction": torch.stack(predictions), "target_logit": torch.stack(target_logits), "own": own}


def answers_under(
    model: Any, anatomy: Anatomy, prepared: Prepared, masks: Float[Tensor, "mask head"]
) -> tuple[Int[Tensor, "mask batch"], Float[Tensor, "mask batch"]]:
    """Most likely tokens and target's logits of one group, see `masked_answers`."""
    rows = torch.cat([piece["layout"]["rows"] for piece in prepared["pieces"]])
    predictions, target = [], []
    for piece in prepared["pieces"]:
        targets = targets_of(prepared, piece)

        def read(logits: Tensor, row: slice, mask: slice, targets: Tensor = targets) -> dict[str, Tensor]:
            wanted = targets[row, mask, None].to(logits.device)
            return {"prediction": logits.argmax(-1), "target": logits.gather(-1, wanted)[..., 0]}

        def answered(hidden: Tensor, read: Any = read) -> dict[str, Tensor]:
            return unembedded_in_pieces(model, anatomy, hidden, prepared["gib"], read)

        found = run_piece(model, anatomy, prepared["cache"], piece, masks, answered)
        predictions.append(found["prediction"].T)
        target.append(found["target"].T)
    order = rows.argsort().to(predictions[0].device)
    return torch.cat(predictions, 1)[:, order], torch.cat(target, 1)[:, order]


def targets_of(prepared: Prepared, piece: Piece) -> Int[Tensor, "row mask"]:
    """Each mask's own target in the prompts of a piece."""
    return prepared["targets"][prepared["draws"]][:, piece["layout"]["rows"]].T


def run_piece(
    model: Any,
    anatomy: Anatomy,
    cache: Any,
    piece: Piece,
    masks: Float[Tensor, "mask head"],
    read: Callable[[Tensor], Any],
) -> Any:
    """What is read off the end of the last layer at the last token under every mask, `[row, mask, d_model]`.

    Gradient flows to the masks. `cache` is the class of caches.
    """
    start, *later = piece["mixtures"]

    def enter() -> Tensor:
        """The stream behind the first layer, with its heads mixed."""
        z = mix(piece["mixtures"][start], masks, piece["z"])
        lane, places = torch.arange(len(z), device=z.device)[:, None], piece["places"].to(z.device)
        changed = after_heads(model, anatomy, start, piece["stream"][lane, places], z[lane, places])
        after = piece["after"].clone()
        after[lane.to(after.device), places.to(after.device)] = changed.to(after.device)
        return after

    visits: dict[int, dict[str, Visit]] = {
        layer: {"z": lambda z, layer=layer: mix(piece["mixtures"][layer], masks, z)}  # type: ignore[misc]
        for layer in later
    }

    prefix = filled_cache(cache, piece["keys"], piece["values"])
    return rerun(model, anatomy, piece["layout"], prefix, start + 1, enter, visits, read)


def mix(
    mixture: Mixture, masks: Float[Tensor, "mask head"], z: Float[Tensor, "lane token width"]
) -> Float[Tensor, "lane token width"]:
    """Z with a layer's heads mixed at their places, for every mask."""
    places, columns = mixture["places"].to(z.device), mixture["columns"].to(z.device)
    source = mixture["source"].to(z.device)
    own = z[torch.arange(len(z), device=z.device)[:, None, None], places[..., None], columns].reshape(source.shape)
    order = torch.arange(source.shape[1], device=masks.device).clamp(max=len(masks) - 1)
    keep = masks[order][:, mixture["numbers"]].to(z.device)[None, :, :, None]
    mixed = keep * own + (1 - keep) * source
    replaced = z.clone()
    put(replaced, places, columns, mixed.reshape(*places.shape, -1))
    return replaced


def prepare(
    model: Any,
    anatomy: Anatomy,
    groups: list[Group],
    batch: Pairs,
    draws: list[int],
    gib: float | None,
    kept_layers: int = 1,
) -> Iterator[Prepared]:
    """Run a batch's clean prompts once and every counterfactual once; then lay out group after group.

    Args:
        model: The model.
        anatomy: Its anatomy.
        groups: The groups.
        batch: The prompts.
        draws: For each mask that is to be tried, the number of its draw.
        gib: Memory budget for what goes through the model at once, see `memory.budget_bytes`.
        kept_layers: See `memory.tokens_at_once`.
    """
    with torch.no_grad():
        starts = {min(layer for layer, _ in group["heads"]) for group in groups}
        if all("values" in group for group in groups):
            sources = [given_source(group) for group in groups]
        else:
            sources = read_sources(model, anatomy, groups, batch["sources"])
        run = run_prompts(model, anatomy, batch["clean"], starts | {start + 1 for start in starts}, starts)
    shared = {"cache": run["cache"], "draws": draws, "targets": batch["targets"], "gib": gib}
    own = run["logits"].argmax(-1)
    for group, source in zip(groups, sources, strict=True):
        jobs = suffix_jobs(anatomy, batch["clean"], group["positions"], len(draws), gib, kept_layers)
        pieces = [make_piece(anatomy, batch["clean"], group, source, run, job, draws) for job in jobs]
        prepared: Any = {"pieces": pieces, "own": own, **shared}
        yield prepared


def layer_numbers(heads: list[list[int]]) -> dict[int, list[int]]:
    """Layer -> numbers of its heads, layers in ascending order."""
    layers = sorted({layer for layer, _ in heads})
    return {layer: [number for number, (where, _) in enumerate(heads) if where == layer] for layer in layers}


def given_source(group: Group) -> dict[int, Float[Tensor, "draw batch _ d_head"]]:
    """Counterfactual z that a group brings, layer by layer."""
    return {layer: group["values"][:, :, numbers] for layer, numbers in layer_numbers(group["heads"]).items()}


def read_sources(
    model: Any, anatomy: Anatomy, groups: list[Group], sources: list[Any]
) -> list[dict[int, Float[Tensor, "draw batch head d_head"]]]:
    """Counterfactual z of every group's heads, layer by layer: one pass a draw, up to the last of these layers."""
    wanted = sorted({layer for group in groups for layer, _ in group["heads"]})
    read: list[dict[int, list[Tensor]]] = [{layer: [] for layer in layer_numbers(group["heads"])} for group in groups]
    for draw, source in enumerate(sources):
        z = read_z(model, anatomy, source, wanted)
        for group, layers in zip(groups, read, strict=True):
            for layer, numbers in layer_numbers(group["heads"]).items():
                device = z[layer].device
                places = group["source_positions"][draw][numbers].T.to(device)
                heads = torch.tensor([group["heads"][number][1] for number in numbers], device=device)
                rows = torch.arange(len(places), device=device)[:, None]
                layers[layer].append(split_heads(anatomy, "z", z[layer])[rows, places, heads[None]])
    return [{layer: torch.stack(values) for layer, values in layers.items()} for layers in read]


def suffix_jobs(
    anatomy: Anatomy,
    clean: Prompts,
    positions: Int[Tensor, "head batch"],
    n_masks: int,
    gib: float | None,
    kept_layers: int = 1,
) -> list[Job]:
    """Which prompts go through the model together, as many as the budget allows: see `memory.tokens_at_once`.

    Prompts of unlike suffixes go together, from the earliest position on, where recomputing some clean tokens costs
    less than another pass.
    """
    lengths = clean["last"] - positions.min(0).values + 1
    room = clean["last"] - clean["mask"].argmax(1) + 1
    worth = pass_in_tokens(anatomy)
    together: list[tuple[int, list[Tensor]]] = []
    for length in sorted(lengths.unique().tolist(), reverse=True):
        rows = (lengths == length).nonzero().flatten()
        longest = together[-1][0] if together else 0
        wasted = (longest - length) * len(rows) * n_masks
        if together and wasted <= worth and int(room[rows].min()) >= longest:
            together[-1][1].append(rows)
        else:
            together.append((length, [rows]))
    jobs: list[Job] = []
    for length, parts in together:
        lanes, pack = lanes_and_pack(n_masks, length)
        prefix = clean["mask"].shape[1]
        tokens = tokens_at_once(anatomy, gib, lengths.device, length * pack, prefix, kept_layers)
        for rows in torch.cat(parts).split(max(1, tokens // (length * pack * lanes))):
            jobs.append({"rows": rows, "length": length})
    return jobs


def make_piece(
    anatomy: Anatomy,
    clean: Prompts,
    group: Group,
    source: dict[int, Float[Tensor, "draw batch head d_head"]],
    run: Run,
    job: Job,
    draws: list[int],
) -> Piece:
    """What a pass of a group takes, but for the masks."""
    rows, length = job["rows"], job["length"]
    slots = (clean["last"][rows] - length + 1)[:, None] + torch.arange(length, device=rows.device)
    layers = layer_numbers(group["heads"])
    start = min(layers)
    stream = run["streams"][start]
    layout = lay_out(anatomy, clean, rows, slots[:, None], len(draws), stream.dtype)
    ends = offsets(clean, group, layout)[:, layers[start]].unique(dim=1)
    if start == anatomy["n_layers"] - 1:
        ends = torch.cat([ends, torch.full_like(ends[:, :1], length - 1)], 1)
    keys, values = prefix_entries(run, layout, start + 1)
    return {
        "layout": layout,
        "mixtures": make_mixtures(anatomy, clean, group, source, layout, draws),
        "stream": at_slots(stream, layout),
        "z": at_slots(run["z"][start], layout),
        "after": at_slots(run["streams"].get(start + 1, stream), layout),
        "places": in_packs(ends, layout),
        "keys": keys,
        "values": values,
    }


def offsets(clean: Prompts, group: Group, layout: Layout) -> Int[Tensor, "lane head"]:
    """Which slot each head is mixed at, in each lane; slots are a prompt's last tokens."""
    first = clean["last"] - layout["shape"][3] + 1
    return (group["positions"] - first)[:, layout["rows"].repeat_interleave(layout["shape"][1])].T


def make_mixtures(
    anatomy: Anatomy,
    clean: Prompts,
    group: Group,
    source: dict[int, Float[Tensor, "draw batch head d_head"]],
    layout: Layout,
    draws: list[int],
) -> dict[int, Mixture]:
    """What is mixed in each layer of a pass; the masks of a lane are packed side by side."""
    rows, (_, lanes, pack, _) = layout["rows"], layout["shape"]
    offset, mixtures = offsets(clean, group, layout), {}
    for layer, numbers in layer_numbers(group["heads"]).items():
        heads = head_columns(anatomy, "z", rows.device)[[group["heads"][number][1] for number in numbers]]
        order = torch.arange(lanes * pack).clamp(max=len(draws) - 1)
        chosen = torch.tensor(draws)[order].to(source[layer].device)
        mixture: Mixture = {
            "numbers": numbers,
            "places": in_packs(offset[:, numbers], layout),
            "columns": heads.repeat(pack, 1),
            "source": source[layer][chosen[None], rows.to(source[layer].device)[:, None]],
        }
        mixtures[layer] = mixture
    return mixtures


def in_packs(offset: Int[Tensor, "lane place"], layout: Layout) -> Int[Tensor, "lane packed"]:
    """Places in the variants of every pack, pack by pack, from places in the slots."""
    _, _, pack, length = layout["shape"]
    begins = torch.arange(0, length * pack, length, device=offset.device)
    return (offset[:, None] + begins[:, None]).flatten(1)
