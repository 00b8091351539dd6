"""Runs that are killed lose nothing; `tests.hostile.kills` does the same to every method, many times."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.kills import torment


def test_kills_cost_nothing_but_time(tmp_path: Path) -> None:
    trial = torment("cmap", 2, seed=1, folder=tmp_path)
    assert trial.kills == 2
    assert trial.units > 4
    assert trial.good, trial
