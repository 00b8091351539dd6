"""Every naive oracle gives what the paper's own procedure gave on the golden models."""

import random

import pytest
import torch

from . import golden
from .layouts import llama_layout
from .path_patching import Path, Receivers, path_effects
from .prompts import Prompts

pytestmark = golden.needs_golden
COMPONENT = {"pos_transmitter": "q", "pos_detector": "v", "struct_reader": "v"}
STAGES = ["value_fetcher", "pos_transmitter", "pos_detector", "struct_reader"]


@pytest.mark.parametrize("stage", STAGES)
def test_path_patching_scores(stage: str) -> None:
    """Six random heads a stage: the naive path takes two forwards a head."""
    data, base = golden.tensors(), golden.model("base")
    last = data["pp.last"]
    positions = golden.roles(data["pp.clean_tokens"], last)[stage]
    assert positions.equal(last) or stage in ("pos_detector", "struct_reader")
    read_at = data["pp.corrupt_label_position"] if stage == "struct_reader" else positions
    receivers = None
    if stage in COMPONENT:
        receivers = Receivers(COMPONENT[stage], golden.heads(golden.facts()["pp.receivers"][stage]))
    every_head = [(layer, head) for layer in range(4) for head in range(6)]
    senders = random.Random(stage).sample(every_head, 6)

    effects = path_effects(
        base,
        llama_layout(base),
        Prompts(data["pp.clean_tokens"]),
        Prompts(data["pp.corrupt_tokens"]),
        data["pp.labels"],
        Path(positions, read_at, last, receivers),
        senders,
    )

    layers, heads = zip(*senders, strict=True)
    expected = data[f"pp.score.{stage}"][layers, heads]
    torch.testing.assert_close(effects.mean(0)[layers, heads], expected, atol=1e-5, rtol=0)
    assert effects.isnan().sum() == effects[:, 0, 0].numel() * (24 - len(senders))
