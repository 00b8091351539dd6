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
    lines = estimate.told(cost, seconds, prompts, batches)
    assert lines[0] == "one batch of 7 prompts:"
    assert lines[1].strip().startswith(f"{cost.units} sessions, ")
    assert lines[-2] == "all 3 batches, about:"
    assert lines[-1].strip().startswith(f"{3 * cost.units} sessions, ")
    cost, *_ = estimate.probe(("experiment=ndif_70b", "method=cmap", "circuit=llama", *small))
    assert cost.units > 0


def test_what_has_no_count_is_refused(tmp_path: Path) -> None:
    sentence = "The book is in Box Q, the bread is in Box X. Box Q contains the book"
    (tmp_path / "boxes.jsonl").write_text(json.dumps({"sentence": sentence}))
    with pytest.raises(UserError, match=r"^task: has no count of prompts"):
        estimate.probe(("method=evaluate", "task=boxes_file", f"task.path={tmp_path / 'boxes.jsonl'}"))
