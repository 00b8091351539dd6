"""Path patching: golden numbers, the naive twin, and laws."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.engine.path_patching import path_effects
from entitrack.models.family import Model
from entitrack.runtime.backends import Local, dry_run

SENDER_ROLE = {
    "value_fetcher": "last",
    "pos_transmitter": "last",
    "pos_detector": "query_label",
    "struct_reader": "prev_query_label",
}
COMPONENT = {"value_fetcher": "logits", "pos_transmitter": "q", "pos_detector": "v", "struct_reader": "v"}
STAGES = list(COMPONENT)


def golden_inputs(golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str) -> dict[str, Any]:
    """The arguments of `path_effects` for one stage of golden's path patching."""
    tokens, last = golden["pp.clean_tokens"], golden["pp.last"]
    rows = torch.arange(len(tokens))
    previous = torch.stack(
        [(row[: end - 3] == row[end - 2]).nonzero()[0, 0] for row, end in zip(tokens, last, strict=True)]
    )
    assert (tokens[rows, previous] == tokens[rows, last - 2]).all()
    clean = {"last": last, "query_label": last - 2, "prev_query_label": previous}
    source = {"last": golden["pp.corrupt_last"], "query_label": golden["pp.corrupt_last"] - 2}
    source["prev_query_label"] = golden["pp.corrupt_label_position"]
    role = SENDER_ROLE[stage]
    receivers: dict[str, Any] = {"component": COMPONENT[stage]}
    if stage != "value_fetcher":
        receivers["heads"] = golden_json["pp.receivers"][stage]
    mask = torch.ones_like(tokens)
    return {
        "clean": {
            "tokens": tokens,
            "mask": mask,
            "position": clean[role],
            "last": last,
            "answers": golden["pp.labels"],
        },
        "source": {"tokens": golden["pp.corrupt_tokens"], "mask": mask, "position": source[role]},
        "senders": [list(range(6))] * 4,
        "receivers": receivers,
    }


def effects(model: Model, inputs: dict[str, Any], gib: float | None = None, backend: Local | None = None) -> Any:
    arguments = {"anatomy": model.anatomy, **inputs, "gib": gib}
    return (backend or Local()).run(model, path_effects, arguments)


@pytest.mark.parametrize("stage", STAGES)
def test_scores_are_golden(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    result = effects(golden_model, golden_inputs(golden, golden_json, stage))
    torch.testing.assert_close(result["effect"].mean(0), golden[f"pp.score.{stage}"], atol=1e-5, rtol=0)
    torch.testing.assert_close(result["probability"], golden["pp.clean_prob"], atol=1e-5, rtol=0)
    if f"pp.top.{stage}" in golden_json:
        ranked = result["effect"].mean(0).flatten().argsort()[: len(golden_json[f"pp.top.{stage}"])]
        assert [[int(i) // 6, int(i) % 6] for i in ranked] == golden_json[f"pp.top.{stage}"]


@pytest.mark.parametrize("stage", STAGES)
def test_null_patch_scores_zero(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    """A sender that takes its own clean value changes nothing; so does the built-in null sender."""
    inputs = golden_inputs(golden, golden_json, stage)
    inputs["source"] = {name: inputs["clean"][name] for name in ("tokens", "mask", "position")}
    result = effects(golden_model, inputs)
    assert result["effect"].mean(0).abs().max() < 1e-6
    assert result["null"].mean(0).abs() < 1e-6


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("gib", [1e-9, 1e-3, 1.0])
def test_scores_do_not_depend_on_the_memory_budget(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str, gib: float
) -> None:
    inputs = _rows(golden_inputs(golden, golden_json, stage), slice(0, 9))
    expected = effects(golden_model, inputs)["effect"]
    torch.testing.assert_close(effects(golden_model, inputs, gib)["effect"], expected, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_scores_do_not_depend_on_batches(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    inputs = golden_inputs(golden, golden_json, stage)
    whole = effects(golden_model, _rows(inputs, slice(0, 10)))["effect"]
    parts = [effects(golden_model, _rows(inputs, rows))["effect"] for rows in (slice(0, 3), slice(3, 10))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_the_rest_does_not_depend_on_which_senders_are_asked_for(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    inputs = _rows(golden_inputs(golden, golden_json, stage), slice(0, 9))
    whole = effects(golden_model, inputs)["effect"]
    some = effects(golden_model, {**inputs, "senders": [[1, 4], [], [0], [5]]})["effect"]
    for layer, heads in enumerate([[1, 4], [], [0], [5]]):
        torch.testing.assert_close(some[:, layer, heads], whole[:, layer, heads], atol=5e-5, rtol=1e-4)
        rest = [head for head in range(6) if head not in heads]
        assert (some[:, layer, rest] == 0).all()


@pytest.mark.parametrize("stage", ["value_fetcher", "pos_detector"])
def test_padding_changes_nothing(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any], stage: str
) -> None:
    inputs = _rows(golden_inputs(golden, golden_json, stage), slice(0, 9))
    expected = effects(golden_model, inputs)["effect"]
    for left, right in ((3, 0), (0, 2)):
        padded = {**inputs}
        for name in ("clean", "source"):
            padded[name] = _pad(inputs[name], left, right)
        torch.testing.assert_close(effects(golden_model, padded)["effect"], expected, atol=5e-5, rtol=1e-4)


def test_receivers_in_the_first_layer_receive_nothing(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    inputs = _rows(golden_inputs(golden, golden_json, "pos_detector"), slice(0, 9))
    first, later = [[0, 1], [0, 2]], [[2, 1], [3, 2]]

    def scored(heads: list[list[int]]) -> Tensor:
        return effects(golden_model, {**inputs, "receivers": {"component": "v", "heads": heads}})["effect"]

    assert (scored(first) == 0).all()
    torch.testing.assert_close(scored([*first, *later]), scored(later), atol=5e-5, rtol=1e-4)


def test_shipped_by_value_gives_the_same(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    inputs = _rows(golden_inputs(golden, golden_json, "pos_detector"), slice(0, 9))
    here, shipped = effects(golden_model, inputs), effects(golden_model, inputs, backend=dry_run())
    torch.testing.assert_close(shipped["effect"], here["effect"], atol=1e-6, rtol=0)


def test_positions_by_head_are_positions_of_that_head(
    golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    """Reading each head's source at a place of its own equals reading all of them there, head by head."""
    inputs = _rows(golden_inputs(golden, golden_json, "struct_reader"), slice(0, 9))
    places = torch.tensor([6, 13, 20])
    drawn = torch.arange(24).view(4, 6) % 3
    own = places[drawn][:, :, None].expand(4, 6, 9)
    found = effects(golden_model, {**inputs, "source": {**inputs["source"], "position": own}})["effect"]
    for number, place in enumerate(places.tolist()):
        source = {**inputs["source"], "position": torch.full((9,), place)}
        expected = effects(golden_model, {**inputs, "source": source})["effect"]
        here = drawn == number
        torch.testing.assert_close(found[:, here], expected[:, here], atol=5e-5, rtol=1e-4)


def _rows(inputs: dict[str, Any], rows: slice) -> dict[str, Any]:
    cut = {name: {key: value[rows] for key, value in inputs[name].items()} for name in ("clean", "source")}
    return {**inputs, **cut}


def _pad(prompts: dict[str, Tensor], left: int, right: int) -> dict[str, Tensor]:
    moved: dict[str, Tensor] = {name: prompts[name] + left for name in ("position", "last") if name in prompts}
    grown = {name: torch.nn.functional.pad(prompts[name], (left, right), value=0) for name in ("tokens", "mask")}
    return {**prompts, **moved, **grown}


def test_settings_are_plain(golden_model: Model) -> None:
    """What is shipped besides tensors pickles without this package."""
    assert type(golden_model.anatomy) is dict
    assert not dataclasses.is_dataclass(golden_model.anatomy)
