"""Training masks: golden trajectories, and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine import masks as engine_masks
from entitrack.engine import pass_cost
from entitrack.engine.anatomy import unembed
from entitrack.engine.dcm import choose, start_choice, train_masks
from entitrack.engine.masks import masked_answers, run_piece
from entitrack.engine.patching import read_sites
from entitrack.models.anatomy import ARCHITECTURES
from entitrack.models.family import Model
from entitrack.runtime.backends import Local
from tests.engine.test_architectures import ragged, wrapped
from tests.engine.test_patching import patched
from tests.naive import dcm as naive
from tests.naive import layouts, tiny
from tests.naive.prompts import Group, Prompts

SETTINGS = ["object_value.value_fetcher", "positional.pos_detector", "positional.struct_reader"]


def golden_side(golden: dict[str, Tensor], prefix: str, side: str, group: str) -> dict[str, Tensor]:
    tokens, last = golden[f"{prefix}.{side}_input_ids"], golden[f"{prefix}.{side}_input_last_pos"]
    asked = tokens[torch.arange(len(tokens)), last - 2]
    position = {
        "value_fetcher": last,
        "pos_detector": last - 2,
        "struct_reader": (tokens == asked[:, None]).int().argmax(1),
    }[group]
    return {"tokens": tokens, "mask": torch.ones_like(tokens), "last": last, "position": position}


def with_positions(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """The batch as it is trained on: one position a head, the same for all heads of a group."""
    clean = {name: value for name, value in batch["clean"].items() if name != "position"}
    sources = [{name: source[name] for name in ("tokens", "mask")} for source in batch["sources"]]
    read = torch.stack([source["position"] for source in batch["sources"]])
    places = {
        "positions": batch["clean"]["position"].repeat(count, 1),
        "source_positions": read[:, None].repeat(1, count, 1),
    }
    return {"clean": clean, "sources": sources, "targets": batch["targets"], **places}


def rows_of(batch: dict[str, Any], rows: slice) -> dict[str, Any]:
    return {
        "clean": {name: value[rows] for name, value in batch["clean"].items()},
        "sources": [{name: value[rows] for name, value in source.items()} for source in batch["sources"]],
        "targets": batch["targets"][:, rows],
    }


def golden_batch(golden: dict[str, Tensor], key: str) -> dict[str, Any]:
    rule, group = key.split(".")
    prefix = f"dcm.{rule}"
    return {
        "clean": golden_side(golden, prefix, "base", group),
        "sources": [golden_side(golden, prefix, "source", group)],
        "targets": golden[f"{prefix}.labels"][None],
    }


def train(model: Model, heads: Any, batch: dict[str, Any], **changes: Any) -> dict[str, Tensor]:
    halves = [rows_of(batch, slice(0, 21)), rows_of(batch, slice(21, 42))]
    inputs = {
        "heads": heads,
        "batches": halves,
        "validation": [halves[1]],
        "draws": [0],
        "sparsity": [0.01],
        "steps": 8,
        "learning_rate": 0.1,
        "validate_after": [4, 8],
        "patience": 0,
        "borrow_positions": False,
        "gib": None,
    }
    given = {"anatomy": model.anatomy, **inputs, **changes}
    for name in ("batches", "validation"):
        given[name] = [with_positions(entry, len(heads)) for entry in given[name]]
    return Local().run(model, train_masks, given)


@pytest.mark.parametrize("key", SETTINGS)
def test_masks_take_the_golden_path(
    golden: dict[str, Tensor], golden_json: dict[str, Any], golden_model: Model, key: str
) -> None:
    found = train(golden_model, golden_json[f"dcm.{key}.heads"], golden_batch(golden, key))
    torch.testing.assert_close(found["masks"][:, 0], golden[f"dcm.{key}.mask_trajectory"], atol=1e-4, rtol=0)
    losses = torch.tensor(golden_json[f"dcm.{key}.losses"])
    torch.testing.assert_close(found["losses"][:, 0], losses, atol=1e-4, rtol=0)


N = 5
HEADS = [[1, 2], [0, 0], [0, 3], [1, 1]]
BACK = torch.tensor([1, 3, 2, 5, 2])


def random_batch(padding: str, back: Tensor, seeds: tuple[int, ...] = (2,)) -> dict[str, Any]:
    """Prompts of unlike lengths with a role `back` tokens before the last, and a draw of counterfactuals a seed."""
    tokens, mask, last = ragged(1, padding)
    sources = []
    for seed in seeds:
        others, other_mask, other_last = ragged(seed, padding)
        sources.append({"tokens": others, "mask": other_mask, "position": other_last - seed % 4})
    targets = torch.stack([(torch.arange(N) + seed) % 32 for seed in seeds])
    clean = {"tokens": tokens, "mask": mask, "last": last, "position": last - back}
    return {"clean": clean, "sources": sources, "targets": targets}


def train_random(model: Model, batch: dict[str, Any], **changes: Any) -> dict[str, Tensor]:
    given = {"batches": [batch], "validation": [batch], "steps": 6, "validate_after": [2, 4, 6], **changes}
    return train(model, HEADS, rows_of(batch, slice(0, N)), **given)


def patch(model: Model, heads: Any, batch: dict[str, Any], masks: Tensor, draws: list[int], gib: float | None) -> Any:
    placed = with_positions(batch, len(heads))
    groups = [{"heads": heads, **{name: placed.pop(name) for name in ("positions", "source_positions")}}]
    inputs = {"groups": groups, "batch": placed, "masks": [masks], "draws": draws, "gib": gib}
    found = Local().run(model, masked_answers, {"anatomy": model.anatomy, **inputs})
    return {"prediction": found["prediction"][0], "target_logit": found["target_logit"][0], "own": found["own"]}


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) & set(tiny.ARCHITECTURES)))
def test_fast_is_naive(architecture: str, padding: str) -> None:
    """Masks and losses of every step, for roles at the last token and before it.

    The weight is negative, so that all masks move.
    """
    module, model = wrapped(architecture)
    module.requires_grad_(False)
    for back in (torch.zeros(N, dtype=torch.long), BACK):
        batch = random_batch(padding, back)
        clean, source = batch["clean"], batch["sources"][0]
        data = naive.Desideratum(
            Prompts(clean["tokens"], clean["mask"]),
            Prompts(source["tokens"], source["mask"]),
            source["position"],
            clean["last"],
            batch["targets"][0],
        )
        group = Group([(layer, head) for layer, head in HEADS], clean["position"])
        layout = layouts.layout_of(module)
        expected = naive.train_mask(module, layout, data, group, [slice(0, N)], 6, sparsity=-1.0)
        found = train_random(model, batch, sparsity=[-1.0])
        torch.testing.assert_close(found["masks"][:, 0], expected.masks, atol=1e-4, rtol=0)
        torch.testing.assert_close(found["losses"][:, 0], expected.losses, atol=1e-4, rtol=1e-4)
        assert expected.losses.std() > 1e-3


def test_masks_trained_together_are_those_trained_alone() -> None:
    model = wrapped("llama")[1]
    both = random_batch("right", BACK, seeds=(2, 5))
    plan = [(draw, weight) for draw in (0, 1) for weight in (0.01, 0.3, 2.0)]
    options = {"draws": [draw for draw, _ in plan], "sparsity": [weight for _, weight in plan], "patience": 1}
    together = train_random(model, both, **options)
    for number, (draw, weight) in enumerate(plan):
        one = {**both, "sources": [both["sources"][draw]], "targets": both["targets"][[draw]]}
        alone = train_random(model, one, sparsity=[weight], patience=1)
        steps = len(alone["masks"])
        torch.testing.assert_close(together["masks"][:steps, number], alone["masks"][:, 0], atol=1e-5, rtol=0)
        assert (together["kept"][number] == alone["kept"][0]).all()


@pytest.mark.parametrize("worth", [0.0, 1e12])
@pytest.mark.parametrize("gib", [1e-9, 2e-3, None])
def test_how_prompts_are_grouped_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, worth: float, gib: float | None
) -> None:
    model = wrapped("llama")[1]
    expected = train_random(model, random_batch("right", BACK))["masks"]
    monkeypatch.setattr(pass_cost, "PASS_TOKENS", 0)
    monkeypatch.setattr(pass_cost, "PASS", worth)
    found = train_random(model, random_batch("right", BACK), gib=gib)["masks"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("low", [True, False])
def test_a_fixed_mask_patches_the_heads_that_it_drops(padding: str, low: bool) -> None:
    """All ones is the model itself; zeros are activation patching; each mask has its own draw of counterfactuals."""
    model = wrapped("llama")[1]
    top = model.anatomy["n_layers"] - 1
    heads = HEADS if low else [[top, head] for head in range(4)]
    batch = random_batch(padding, BACK if low else torch.tensor([0, 3, 0, 5, 0]), seeds=(2, 5))
    masks = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0.0]])
    draws = [0, 0, 1, 1]
    found = patch(model, heads, batch, masks, draws, 1e-4)
    assert (found["own"] == found["prediction"][0]).all()
    clean = {**batch["clean"], "answers": batch["targets"][0]}
    for number, (mask, draw) in enumerate(zip(masks, draws, strict=True)):
        chosen = sorted(head for head, own in zip(heads, mask.tolist(), strict=True) if not own)
        sites = [{"component": "z", "layer": la, "heads": [he], "position": clean["position"]} for la, he in chosen]
        source = {**batch["sources"][draw], "last": batch["clean"]["last"], "answers": clean["answers"]}
        read = {"prompts": source, "sites": [{**site, "position": source["position"]} for site in sites]}
        values = Local().run(model, read_sites, {"anatomy": model.anatomy, **read})["values"]
        filled = [{**site, "values": value} for site, value in zip(sites, values, strict=True)]
        inputs = {"anatomy": model.anatomy, "prompts": clean, "sites": filled}
        logits = Local().run(model, patched, inputs)["logits"]
        assert (found["prediction"][number] == logits.argmax(-1)).all()
        expected = logits.gather(1, batch["targets"][draw][:, None])[:, 0]
        torch.testing.assert_close(found["target_logit"][number], expected, atol=1e-4, rtol=1e-4)
    assert (found["target_logit"][0] - found["target_logit"][1]).abs().max() > 1e-2


def test_heads_without_effect_are_left_alone() -> None:
    """A prompt that is its own counterfactual gives no gradient but that of the number of heads."""
    model = wrapped("llama")[1]
    batch = random_batch("right", BACK)
    batch["sources"] = [{name: batch["clean"][name] for name in ("tokens", "mask", "position")}]
    found = train_random(model, batch, sparsity=[1.0])
    assert (found["kept"] == 1).all()
    torch.testing.assert_close(found["losses"][0], found["losses"][-1], atol=1e-4, rtol=0)


def test_of_equally_good_masks_the_larger_set_is_kept_and_patience_ends() -> None:
    best = start_choice(torch.ones(2, 3))
    seen = [
        ([[0, 1, 1], [0, 1, 1]], [0.5, 0.5]),
        ([[0, 0, 1], [0, 1, 1]], [0.5, 0.4]),
        ([[1, 1, 1], [0, 0, 0]], [0.5, 0.9]),
    ]
    for masks, accuracy in seen:
        choose(best, torch.tensor(masks).float(), torch.tensor(accuracy), patience=2, early=False)
    assert best["masks"].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert best["active"].tolist() == [False, True]
    choose(best, torch.zeros(2, 3), torch.tensor([1.0, 0.9]), patience=2, early=False)
    assert best["masks"].tolist() == [[0, 0, 1], [0, 0, 0]]


def test_patience_counts_from_when_a_mask_can_have_moved() -> None:
    best = start_choice(torch.ones(1, 3))
    for _ in range(5):
        choose(best, torch.ones(1, 3), torch.tensor([0.5]), patience=2, early=True)
    assert best["active"].tolist() == [True]
    for _ in range(2):
        choose(best, torch.ones(1, 3), torch.tensor([0.5]), patience=2, early=False)
    assert best["active"].tolist() == [False]
    choose(best, torch.zeros(1, 3), torch.tensor([0.9]), patience=2, early=False)
    assert (best["accuracy"].tolist(), best["masks"].tolist()) == ([0.5], [[1, 1, 1]])


def test_the_published_quirk_validates_at_the_training_batchs_positions() -> None:
    """Then training is the same, and only what is kept may differ."""
    model = wrapped("llama")[1]
    batch, other = random_batch("right", BACK), random_batch("right", BACK.flip(0))
    own = train_random(model, batch, validation=[other])
    borrowed = train_random(model, batch, validation=[other], borrow_positions=True)
    same = train_random(model, batch, validation=[batch])
    torch.testing.assert_close(own["masks"], borrowed["masks"])
    torch.testing.assert_close(borrowed["validated"], same["validated"])


def test_patching_a_whole_circuit_gives_golden_logits(
    golden: dict[str, Tensor], golden_model: Model, golden_circuit: Any
) -> None:
    """All groups at once; as published, the structure reader is read at the clean prompt's position."""
    key = "dcm.object_value"
    sides = {side: golden_side(golden, key, side, "struct_reader") for side in ("base", "source")}
    last, previous = sides["base"]["last"], sides["base"]["position"]
    places = {"last": last, "query_label": last - 2, "prev_query_label": previous}
    heads = [(list(head), group.role) for group in golden_circuit.groups for head in group.heads]
    positions = torch.stack([places[role] for _, role in heads])
    assert (sides["source"]["last"] == last).all()
    groups = [{"heads": [head for head, _ in heads], "positions": positions, "source_positions": positions[None]}]
    batch = {
        "clean": {name: sides["base"][name] for name in ("tokens", "mask", "last")},
        "sources": [{name: sides["source"][name] for name in ("tokens", "mask")}],
        "targets": golden[f"{key}.labels"][None],
    }

    def patch_all(model: Any, anatomy: Any, groups: Any, batch: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            (prepared,) = engine_masks.prepare(model, anatomy, groups, batch, [0], None)
            logits, masks = torch.empty(42, 256), torch.zeros(1, len(heads))
            for piece in prepared["pieces"]:
                found = run_piece(
                    model, anatomy, prepared["cache"], piece, masks, lambda hidden: unembed(model, anatomy, hidden)
                )
                logits[piece["layout"]["rows"]] = found[:, 0]
        return {"logits": logits}

    inputs = {"anatomy": golden_model.anatomy, "groups": groups, "batch": batch}
    found = Local().run(golden_model, patch_all, inputs)["logits"]
    torch.testing.assert_close(found, golden["actpatch.logits"], atol=1e-4, rtol=0)
