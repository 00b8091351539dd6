"""One batch tells what all of them take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import estimate
import pytest

from entitrack.cli.config import check
from entitrack.core.errors import UserError
from entitrack.run import execute
from entitrack.runtime.backends import Cost
from tests.cli.test_config import compose

HERE = ("model=tiny", "model.device=cpu", "task.boxes=3", "batch_size=14")
LOCAL = ("store=null",)


@pytest.mark.parametrize("words", [("method=evaluate",), ("method=attention_knockout",)])
def test_sessions_and_bytes_are_those_of_the_whole(words: tuple[str, ...]) -> None:
    whole = (*HERE, *words, "task.count=42")
    cost, _, prompts, batches = estimate.probe(whole)
    assert (prompts, batches) == (14, 3)
    found = asdict(execute(check(compose(*whole, *LOCAL)))[1].runner.cost)
    expected = asdict(estimate.scaled(cost, batches))
    assert found["units"] == expected["units"] == 3 * cost.units > 0
    for name in ("bytes_up", "bytes_down"):
        assert found[name] == pytest.approx(expected[name], rel=0.02)


def test_the_pair_of_70b_goes_through_a_dry_run_and_is_estimated() -> None:
    """Its experiment, on an embedded family in its place."""
    small = ("model=tiny", "donor=float", "backend=dry_run", "model.device=cpu", "batch_size=7", "task.count=21")
    cost, seconds, prompts, batches = estimate.probe(("experiment=ndif_70b", *small[:1], *small[2:]))
    assert (prompts, batches) == (7, 3)
    assert cost.simulated == cost.units > 0
    assert cost.wire_up > 1000 * cost.units
    assert 0 < cost.wire_down < cost.wire_up
    lines = [line.strip() for line in estimate.told(cost, seconds, prompts, batches)]
    assert lines[0] == "one batch of 7 prompts:"
    assert lines[1].startswith(f"{cost.units} sessions, ")
    assert lines[4] == "all 3 batches, about:"
    assert lines[5].startswith(f"{3 * cost.units} sessions, ")
    assert lines[6] == f"a server would be sent {3 * cost.units} jobs"
    assert lines[7].startswith(f"up {3 * cost.wire_up:,} bytes (tensors {3 * cost.bytes_up:,}), down ")
    cost, *_ = estimate.probe(("experiment=ndif_70b", "method=cmap", "circuit=llama", *small))
    assert cost.units > 0


def test_what_is_done_once_is_not_multiplied() -> None:
    one = Cost(jobs=4, wire_up=100, running_s=2.0, deploying_s=40.0, gpu_bytes=7, gpu_percent=10.0)
    assert estimate.scaled(one, 3) == Cost(
        jobs=12, wire_up=300, running_s=6.0, deploying_s=40.0, gpu_bytes=7, gpu_percent=10.0
    )
    lines = estimate.told(one, 50.0, prompts=8, batches=3)
    assert "  0 sessions, 70.0 s" in lines
    assert lines[-1] == "by memory a batch could have 64 prompts"


def test_what_has_no_count_is_refused(tmp_path: Path) -> None:
    sentence = "The book is in Box Q, the bread is in Box X. Box Q contains the book"
    (tmp_path / "boxes.jsonl").write_text(json.dumps({"sentence": sentence}))
    with pytest.raises(UserError, match=r"^task: has no count of prompts"):
        estimate.probe(("method=evaluate", "task=boxes_file", f"task.path={tmp_path / 'boxes.jsonl'}"))
