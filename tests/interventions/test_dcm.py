"""Training masks: golden trajectories, and laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.backends import Local
from entitrack.interventions.dcm import train_masks
from entitrack.models.family import Model

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
        "evaluate_every": 4,
        "patience": 0,
        "borrow_positions": False,
        "chunk_tokens": 4096,
    }
    return Local().run(model, train_masks, {"anatomy": model.anatomy, **inputs, **changes})


@pytest.mark.parametrize("key", SETTINGS)
def test_masks_take_the_golden_path(
    golden: dict[str, Tensor], golden_json: dict[str, Any], golden_model: Model, key: str
) -> None:
    found = train(golden_model, golden_json[f"dcm.{key}.heads"], golden_batch(golden, key))
    torch.testing.assert_close(found["masks"][:, 0], golden[f"dcm.{key}.mask_trajectory"], atol=1e-4, rtol=0)
    losses = torch.tensor(golden_json[f"dcm.{key}.losses"])
    torch.testing.assert_close(found["losses"][:, 0], losses, atol=1e-4, rtol=0)
