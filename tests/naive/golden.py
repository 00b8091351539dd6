"""The golden data: what the paper's own procedure gives on two small models."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from .prompts import Group, Head, Positions

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORY = Path(os.environ.get("ENTITRACK_GOLDEN", REPOSITORY.parent / "shared" / "golden"))
needs_golden = pytest.mark.skipif(
    not (DIRECTORY / "golden.safetensors").is_file(),
    reason=f"no golden data in {DIRECTORY}: point ENTITRACK_GOLDEN at it",
)
FIRST_LABEL, SEGMENT, QUESTION = 6, 7, 50
"""In every golden prompt: index of the first box's letter, tokens per box, where the question begins."""


@cache
def tensors() -> dict[str, Tensor]:
    """Return the golden tensors."""
    return load_file(DIRECTORY / "golden.safetensors")


@cache
def facts() -> dict[str, Any]:
    """Return what the golden json holds."""
    return json.loads((DIRECTORY / "golden.json").read_text())


@cache
def model(name: str) -> Any:
    """Return the golden `base` or `donor`, without gradients on its weights."""
    loaded = AutoModelForCausalLM.from_pretrained(DIRECTORY / name, attn_implementation="eager")
    return loaded.eval().requires_grad_(False)


def heads(listed: list[list[int]]) -> list[Head]:
    """Turn the json's [layer, head] lists into heads."""
    return [(layer, head) for layer, head in listed]


def roles(tokens: Tensor, last: Positions) -> dict[str, Positions]:
    """Return each group's position in each prompt: last, last, query_label, prev_query_label.

    Raises:
        AssertionError: the letter asked for is not in the context exactly once, at a box's letter.
    """
    query_label = last - 2
    asked = tokens[torch.arange(len(tokens)), query_label]
    here = tokens[:, :QUESTION] == asked[:, None]
    assert (here.sum(1) == 1).all()
    prev_query_label = here.int().argmax(1)
    assert ((prev_query_label - FIRST_LABEL) % SEGMENT == 0).all()
    return {
        "value_fetcher": last,
        "pos_transmitter": last,
        "pos_detector": query_label,
        "struct_reader": prev_query_label,
    }


def circuit(name: str, positions: dict[str, Positions]) -> dict[str, Group]:
    """Return the groups of the json's circuit `name`, at `positions` by group."""
    return {group: Group(heads(listed), positions[group]) for group, listed in facts()[name].items()}
