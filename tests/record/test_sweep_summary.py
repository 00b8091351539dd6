"""The table and the figure over a sweep: what was varied is an axis, what differs in seeds alone is one point."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entitrack import sweep as door
from entitrack.core.drawing import Rows
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import ALIKE, FEW_REPEATS, NO_NUMBER, Estimate, over_repeats
from entitrack.core.table import Table
from entitrack.record.sweep_summary import SweptRun, axes_of, drawing, read_runs, rows_of, tables, write_sweep
from tests.methods import hand_made


def run(own: float, gain: float | None = None, method: str = "cmap", **point: str) -> SweptRun:
    """A run whose main table has a base, and a donor that may have gained."""
    rows: list[Any] = [("base", 3, Estimate(own, own - 0.1, own + 0.1, 9), None)]
    rows += [] if gain is None else [("float (donor)", 3, Estimate(own + gain, 0.0, 1.0, 9), gain)]
    table = Table("t", ("model", "heads", "accuracy [95 %]", "of the gap"), tuple(rows))
    return SweptRun(
        {name.replace("_", "."): value for name, value in point.items()}, Result(method, {}, {}, tables=(table,))
    )


def test_axes_are_what_differs_between_words() -> None:
    words = [["method=cmap", "donor=a", "task.seed=0"], ["method=cmap", "donor=b", "+task.seed=0"]]
    assert axes_of(words) == [{"donor": "a"}, {"donor": "b"}]
    assert axes_of([["a=1"], ["a=1", "b=2"]]) == [{"b": ""}, {"b": "2"}]
    assert axes_of([["a=1"]]) == [{}]


def test_rows_stand_below_each_other_point_by_point() -> None:
    (table,) = tables([run(0.5, 0.25, donor="a"), run(0.5, 0.5, donor="b")])
    assert table.title == "cmap over donor"
    assert table.columns == ("model", "donor", "accuracy [95 %]", "of the gap")
    assert [row[:2] for row in table.rows] == [("base", "a"), ("base", "b"), ("donor", "a"), ("donor", "b")]
    assert table.rows[0][2] == Estimate(0.5, 0.4, 0.6, 9)
    assert [row[3] for row in table.rows] == [None, None, 0.25, 0.5]


def test_seeds_are_repeats_and_no_axis() -> None:
    swept = [
        run(own, donor=donor, task_seed=str(seed), seed=str(seed))
        for donor, values in {"a": (0.1, 0.2, 0.6), "b": (0.5, 0.5, 0.5)}.items()
        for seed, own in enumerate(values)
    ]
    (table,) = tables(swept)
    assert table.columns == ("model", "donor", "accuracy [95 %]", "seeds")
    assert table.title == "cmap over donor; means over seeds, with 95 % intervals over them"
    first, second = table.rows
    assert (first[0], first[1], first[3]) == ("base", "a", 3)
    assert isinstance(first[2], Estimate)
    reach = 4.302653 * math.sqrt(0.07) / math.sqrt(3)  # Student's t of two degrees of freedom
    assert (first[2].low, first[2].high) == pytest.approx((0.3 - reach, 0.3 + reach), abs=1e-6)
    assert isinstance(second[2], Estimate)
    assert str(second[2]) == f".500 [{ALIKE}]"


def test_a_sweep_over_seeds_alone_is_one_point() -> None:
    (table,) = tables([run(0.25, seed="0"), run(0.75, seed="1")])
    assert table.columns == ("model", "accuracy [95 %]", "seeds")
    assert table.title.startswith("cmap over seeds;")
    assert len(table.rows) == 1


def test_every_method_has_a_table_of_its_own_axes() -> None:
    swept = [run(0.5, method=method, method_=method, donor=donor) for method in ("cmap", "dcm") for donor in "ab"]
    swept = [SweptRun({"method": each.point["method."], "donor": each.point["donor"]}, each.result) for each in swept]
    assert [table.title for table in tables(swept)] == ["cmap over donor", "dcm over donor"]


def test_too_few_or_equal_or_missing_numbers_have_no_interval() -> None:
    assert over_repeats([1.0, 3.0]).without == FEW_REPEATS
    assert over_repeats([1.0, math.nan, 1.0]).without == NO_NUMBER
    assert over_repeats([2.0, 2.0, 2.0]).without == ALIKE
    pooled = over_repeats([1.0, 2.0, 3.0])
    assert (pooled.value, pooled.n, pooled.without) == (2.0, 3, None)
    reach = 4.302653 / math.sqrt(3)
    assert (pooled.low, pooled.high) == pytest.approx((2 - reach, 2 + reach), abs=1e-6)


def test_the_figure_has_a_panel_a_method_and_a_row_a_point() -> None:
    drawn = drawing([run(0.5, 0.25, donor=donor, seed=seed) for donor in "ab" for seed in "01"])
    assert drawn is not None
    (panel,) = drawn.panels
    assert isinstance(panel, Rows)
    assert (panel.title, panel.axis, panel.names) == ("cmap, 4 runs", "accuracy", "donor")
    assert [row.name for row in panel.rows] == ["base, a", "base, b", "donor, a", "donor, b"]
    assert [(mark.label, mark.value) for row in panel.rows[:2] for mark in row.marks] == [
        (donor, over_repeats([0.5, 0.5])) for donor in "ab"
    ]
    assert len({mark.hue for row in panel.rows for mark in row.marks}) == 2
    assert panel.rows[0].draws == (0.5, 0.5)
    assert "single seeds" in drawn.notes[0]
    alone = drawing([run(0.5, donor=donor) for donor in "ab"])
    assert alone is not None
    assert alone.notes == ("Bars: 95 % intervals.",)
    assert drawing([SweptRun({}, Result("desiderata", {}, {}, tables=(Table("", ("a",), (("x",),)),)))]) is None


def test_rows_without_numbers_are_none() -> None:
    nothing = SweptRun({}, Result("desiderata", {}, {}, tables=(Table("", ("a",), (("x",),)),)))
    assert rows_of([nothing]) == []
    assert tables([nothing]) == []


def swept_folder(folder: Path) -> Path:
    """Three jobs: one has ended, one is waiting, and one was refused a folder that holds another's result."""
    correct = hand_made.measured([[True, False] * 6], "model", hand_made.prompts(12, {"query": [0] * 12}), model=("m",))
    facts: dict[str, Any] = {"facets": {}, "phrasings": []}
    result = hand_made.laid_out("evaluate", facts, {"correct": correct})
    for number in "02":
        replace(result, provenance={}).save(folder / number)
    jobs = [(0, "a", None), (1, "b", None), (2, "c", "holds a result of another configuration")]
    write_sweep(
        folder,
        "command",
        [{"number": n, "words": [f"donor={d}"], "folder": str(n), "failed": why} for n, d, why in jobs],
    )
    return folder


def test_a_summary_is_made_anew_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert door.main([str(swept_folder(tmp_path))]) == 0
    printed = capsys.readouterr().out
    assert "evaluate over" in printed
    assert ".500 [.254, .746]" in printed
    assert printed.splitlines()[-1] == f"  recorded in {tmp_path}, drawn in sweep.png"
    assert (tmp_path / "sweep.png").stat().st_size > 1000
    (only,) = read_runs(tmp_path)
    assert only.point == {"donor": "a"}


@pytest.mark.parametrize(
    ("content", "step", "says"),
    [
        (None, "", "sweep.json: there is no such file; pass the folder of a sweep"),
        ({"format": 2, "jobs": []}, "", "is no record of a sweep of format 1; run the sweep again"),
        ({"format": 1}, "", "is no record of a sweep of format 1; run the sweep again"),
        ({"format": 1, "jobs": [{"folder": 3}]}, "", "is no record of a sweep of format 1; run the sweep again"),
        ({"format": 1, "jobs": []}, "", "no run of the sweep has ended"),
        ({"format": 1, "jobs": []}, "cmap", "no run of step cmap has ended"),
    ],
)
def test_a_folder_that_is_no_sweep_is_named(
    content: object, step: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        read_runs(tmp_path, step)
    assert door.main([str(tmp_path), "--step", step]) == 2
    assert says in capsys.readouterr().err
