"""Intervals cover as they say, and heads are found no more often by chance than they say: a quick run of the job."""

from __future__ import annotations

import pytest
import simulate_intervals as job

from entitrack.core.table import Table


def cells(table: Table, first: int) -> list[float]:
    return [float(str(cell)) for row in table.rows for cell in row[first:]]


def test_intervals_cover() -> None:
    """With 100 runs a coverage of .92 is seen as .83 or more; intervals that are far too wide would always hold."""
    table = job.coverage_table(job.Extent((12, 40), 100, (), {}))
    seen = cells(table, 3)
    assert min(seen) >= 0.83
    assert sum(seen) / len(seen) == pytest.approx(0.955, abs=0.02)
    assert {str(row[0]) for row in table.rows} == {"mean", "difference", "ratio"}


def test_an_interval_that_is_too_narrow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entitrack.core.statistics.estimates.LEVEL", 0.8)
    assert min(cells(job.coverage_table(job.Extent((12,), 60, (), {})), 3)) < 0.83


def test_heads_are_found_as_often_as_they_may() -> None:
    table = job.search_table(job.Extent((), 0, (12,), {24: 100}))
    (row,) = table.rows
    normal, heavy, _, weak, strong, overwhelming = (float(str(cell)) for cell in row[2:])
    assert max(normal, heavy) <= 0.14  # four errors above .05
    assert weak < strong < overwhelming == 1


def test_it_prints_both_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "QUICK", job.Extent((10,), 3, (10,), {5: 3}))
    job.main(["--quick"])
    printed = capsys.readouterr().out
    assert "Coverage of 95 % intervals" in printed
    assert "Runs in which a head is found" in printed
