"""What masks are trained on in the benchmark: groups as deep as the paper's, and random prompts of its length."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import torch

from entitrack.models.family import Model

TOKENS = 54


@dataclass(frozen=True)
class Setting:
    """A group to train masks for, as deep as the paper's.

    Attributes:
        name: Name of the group.
        role: `last`, `query_label` or `prev_query_label`.
        shares: First and last of its layers, as shares of the model's depth.
        heads: How many heads it has.
    """

    name: str
    role: str
    shares: tuple[float, float]
    heads: int


SETTINGS = (
    Setting("value_fetcher", "last", (0.45, 1.0), 12),
    Setting("pos_transmitter", "last", (0.34, 0.62), 7),
    Setting("pos_detector", "query_label", (0.03, 0.44), 12),
    Setting("struct_reader", "prev_query_label", (0.25, 0.4), 5),
)


def draw_inputs(model: Model, setting: Setting, given: argparse.Namespace) -> dict[str, Any]:
    """Random prompts of the paper's length with its roles in the paper's places, and a group's heads."""
    generator = torch.Generator().manual_seed(0)
    layers, n_heads = model.anatomy["n_layers"], model.anatomy["n_heads"]
    low, high = (
        int(setting.shares[0] * layers),
        max(int(setting.shares[0] * layers) + 1, int(setting.shares[1] * layers)),
    )
    every = [[layer, head] for layer in range(low, high) for head in range(n_heads)]
    order = torch.randperm(len(every), generator=generator).tolist()
    rest = [every[number] for number in order if every[number][0] != low]
    heads = [every[0], *rest] + [every[number] for number in order if every[number][0] == low and number]
    heads = heads[: setting.heads]
    sides = [torch.randint(3, 100, (given.prompts, TOKENS), generator=generator) for _ in range(2)]
    last = torch.full((given.prompts,), TOKENS - 1)
    previous = 6 + 7 * (torch.arange(given.prompts) % 7)
    position = {"last": last, "query_label": last - 2, "prev_query_label": previous}[setting.role]
    mask = torch.ones_like(sides[0])
    return {
        "heads": heads,
        "batch": {
            "clean": {"tokens": sides[0], "mask": mask, "last": last},
            "sources": [{"tokens": sides[1], "mask": mask}],
            "targets": torch.randint(3, 100, (1, given.prompts), generator=generator),
            "positions": position.repeat(len(heads), 1),
            "source_positions": position.repeat(1, len(heads), 1),
        },
    }


def cut(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """The first prompts of a batch: the evaluation at the end of a training is not what is measured."""
    return {
        "clean": {name: values[:count] for name, values in batch["clean"].items()},
        "sources": [{name: values[:count] for name, values in source.items()} for source in batch["sources"]],
        **{name: batch[name][..., :count] for name in ("targets", "positions", "source_positions")},
    }
