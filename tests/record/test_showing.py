"""One result on the terminal, in a notebook, as a frame and in a figure: the same numbers, in their places."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch
from rich.console import Console

from entitrack.core.quirks import QUIRKS, Quirk, published_notes
from entitrack.core.result import Result, measurement_frame
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Table, as_text, table_of
from entitrack.record import figures, terminal
from entitrack.runtime.backends import Cost
from entitrack.runtime.peak_memory import peak_memory
from tests.methods import hand_made

SHARE = Estimate(0.5, 0.25, 0.625, 9)
CELLS = ("<a>", 3, 0.125, SHARE, None)
COLUMNS = ("name", "count", "score", "share [95 %]", "rest")
TABLE = Table("a & b", COLUMNS, (CELLS, ("long", 4, math.nan, SHARE, "x")))


def test_a_frame_has_an_estimate_s_value_and_both_ends() -> None:
    frame = TABLE.frame()
    assert list(frame) == ["name", "count", "score", "share", "share, low", "share, high", "rest"]
    assert frame.iloc[0].tolist()[:-1] == ["<a>", 3, 0.125, 0.5, 0.25, 0.625]
    assert frame["rest"].isna().tolist() == [True, False]
    assert list(Table("", COLUMNS, ()).frame()) == ["name", "count", "score", "share", "rest"]


def test_html_has_every_cell_and_no_markup_of_a_text() -> None:
    told = TABLE.to_html()
    cells = "<td>&lt;a&gt;</td><td>3</td><td>0.1250</td><td>.500 [.250, .625]</td><td></td>"
    head = "<th>name</th><th>count</th><th>score</th><th>share [95 %]</th><th>rest</th>"
    assert told.startswith(f"<table><caption>a &amp; b</caption><thead><tr>{head}</tr></thead><tbody><tr>{cells}</tr>")
    assert told.endswith("<td>x</td></tr></tbody></table>")
    shown = Result("cmap", {}, {}, tables=(TABLE, TABLE), notes=("<b>", "c"))._repr_html_()
    assert shown == f"<div>{told}{told}<ul><li>&lt;b&gt;</li><li>c</li></ul></div>"


def test_a_table_is_read_from_its_plain_values() -> None:
    share = {"value": 0.5, "low": 0.25, "high": 0.625, "n": 9}
    record = {"title": "a & b", "columns": list(COLUMNS), "rows": [["<a>", 3, 0.125, share, None]]}
    assert table_of(record) == Table("a & b", COLUMNS, (CELLS,))


@pytest.mark.parametrize(("cell", "text"), [(None, ""), (1.0, "1.0000"), (2, "2"), ("a", "a"), (SHARE, str(SHARE))])
def test_a_cell_reads_alike_everywhere(cell: Any, text: str) -> None:
    assert as_text(cell) == terminal.render(cell) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.5, -0.25, 1.0, 3), ".500 [-.250, 1.000]"),
        (Estimate(-1.5, -10.0, 0.0, 3), "-1.500 [-10.000, .000]"),
        (Estimate(math.nan, math.nan, math.nan, 3), "nan [nan, nan]"),
    ],
)
def test_an_estimate_is_its_value_and_its_ends(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def lines_of(table: Table, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(terminal.lay_out(table))
    return [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]


def test_numbers_stand_to_the_right_and_names_to_the_left() -> None:
    title, head, _, first, second = lines_of(Table("t", ("name", "count"), (("a", 3), ("bcdef", 1000))), 100)
    assert (title, head) == ("t", "  name    count")
    assert (first, second) == ("  a           3", "  bcdef    1000")


def test_long_texts_are_wrapped_and_no_other() -> None:
    """One of 40 characters is whole however narrow the terminal; one of 41 goes on below."""
    for length, lines in ((40, 1), (41, 2)):
        text = "word " * 8 + "x" * (length - 40)
        table = Table("", ("name", "text"), (("a", text.ljust(length, "y")),))
        assert len(lines_of(table, 46)) == 2 + lines


def test_tables_come_before_notes_and_fit_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    wide = Table("", ("a", "b"), (("x", "many words " * 30),))
    terminal.show(SimpleNamespace(tables=(wide,), notes=("a note",)))  # type: ignore[arg-type]
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "  a note"
    assert 100 < max(map(len, printed)) <= 120


WIDE = Table("wide", ("name", *(f"column {number}" for number in range(12))), (("a", *(0.123456,) * 12),))


def test_a_table_that_is_wider_than_a_pipe_s_lines_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_table(WIDE)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[1].split("   ")[-1].strip() == "column 11"
    assert lines[3].count("0.1235") == 12
    assert max(map(len, lines)) == terminal.least_width(WIDE) - 1 > 140


@pytest.mark.parametrize("width", [20, 29, 30, 80, 141, 142, 300])
def test_a_terminal_shows_every_column_of_it(width: int) -> None:
    """In parts that fit, each with the first column; one column more would not have."""
    shown = terminal.parts(WIDE, width)
    assert [name for part in shown for name in part.columns[1:]] == list(WIDE.columns[1:])
    assert all(part.columns[0] == "name" and part.rows[0][0] == "a" for part in shown)
    assert [part.title for part in shown] == ["wide", *["wide, continued"] * (len(shown) - 1)]
    assert all(terminal.least_width(part) <= max(width, 24) for part in shown)
    assert len(shown) == {20: 12, 29: 12, 30: 7, 80: 2, 141: 2, 142: 1, 300: 1}[width]
    for part in shown:
        head, _, row = lines_of(part, max(width, terminal.least_width(part)))[1:]
        assert head.split() == " ".join(part.columns).split()
        assert row.count("0.1235") == len(part.columns) - 1


def test_what_a_run_cost_is_said_and_no_more() -> None:
    assert terminal.cost_lines(Cost(units=3), 1.25) == ["3 sessions, 1.2 s"]
    assert terminal.cost_lines(Cost(units=3, reused=2), 1.0) == ["3 sessions, 2 reused from the store, 1.0 s"]
    served = Cost(
        units=3, jobs=2, collected=1, retries=4, bytes_up=1000, bytes_down=2000, wire_up=1500, wire_down=2500,
        queued_s=1.0, running_s=2.0, transfer_s=3.0,
    )  # fmt: skip
    assert terminal.cost_lines(served, 9.0) == [
        "3 sessions, 9.0 s",
        "2 jobs submitted, 1 collected from an earlier run, 4 requests repeated",
        "up 1,500 bytes (tensors 1,000), down 2,500 (tensors 2,000)",
        "summed over jobs: queued 1.0 s, running 2.0 s, transferring 3.0 s",
    ]
    assert terminal.cost_lines(Cost(collected=1), 0.0)[1] == "0 jobs submitted, 1 collected from an earlier run"
    assert terminal.cost_lines(Cost(jobs=1), 0.0)[1] == "1 jobs submitted"
    dry = Cost(units=3, simulated=3, wire_up=1500, wire_down=2500, bytes_up=1000, bytes_down=2000)
    assert terminal.cost_lines(dry, 9.0)[1:] == [
        "a server would be sent 3 jobs",
        "up 1,500 bytes (tensors 1,000), down 2,500 (tensors 2,000)",
    ]
    boxed = Cost(units=3, simulated=3, socket_messages=1200, socket_bytes=34000)
    assert terminal.cost_lines(boxed, 9.0)[3] == "through its sandbox's socket would go 1,200 messages of 34,000 bytes"
    hard = Cost(jobs=9, resubmitted=2, out_of_memory=1, deploying_s=40.0, gpu_bytes=3 * 2**29, gpu_percent=24.6)
    assert terminal.cost_lines(hard, 50.0)[1:] == [
        "9 jobs submitted, 2 of them again, 1 ran out of memory",
        "up 0 bytes (tensors 0), down 0 (tensors 0)",
        "summed over jobs: queued 0.0 s, waiting for models to be brought up 40.0 s, running 0.0 s, transferring 0.0 s",
        "the largest job took 1.50 GiB of a GPU, 25 % of what its weights leave",
    ]


def test_a_measurement_s_frame_has_a_row_a_value() -> None:
    on = hand_made.prompts(2, {"query": [5, 6]})
    tokens = hand_made.measured([[7, 8], [8, 7]], "model", on, model=("a", "b"))
    expected = {
        "model": ["a", "a", "b", "b"],
        "prompt": ["0", "1", "0", "1"],
        "value": [7, 8, 8, 7],
        "text": ["text 0", "text 1"] * 2,
        "answer": ["answer"] * 4,
        "cluster": [0, 1, 0, 1],
        "query": [5, 6, 5, 6],
    }
    pandas.testing.assert_frame_equal(measurement_frame(tokens, {7: "x"}), pandas.DataFrame(expected))
    named = measurement_frame(tokens, {7: "x", 8: "y", 9: "z"})
    assert named["word"].tolist() == ["x", "y", "y", "x"]
    numbers = hand_made.measured([7.0, 8.0], "", on)
    assert "word" not in measurement_frame(numbers, {7: "x", 8: "y"})
    result = Result("cmap", {}, {"tokens": tokens, "numbers": numbers})
    pandas.testing.assert_frame_equal(result.frame(), result.frame("tokens"))
    assert len(result.frame("numbers")) == 2


def test_a_result_without_a_figure_has_no_image() -> None:
    assert figures.image(Result("desiderata", {}, {})) is None


@pytest.mark.parametrize("quirk", list(Quirk))
def test_a_quirk_that_was_followed_is_told_as_it_was_published(quirk: Quirk) -> None:
    assert published_notes([quirk.value]) == [f"as published, {QUIRKS[quirk].published}"]
    assert QUIRKS[quirk].published != QUIRKS[quirk].default


def test_measurements_that_do_not_fit_their_axes_are_refused() -> None:
    on = hand_made.prompts(2)
    for values, axes, prompts, labels in (
        ([1.0, 2.0], "a b", None, {}),
        ([1.0, 2.0, 3.0], "", on, {}),
        ([1.0, 2.0], "a", None, {"a": ("x",)}),
        ([1.0, 2.0], "a", None, {"b": ("x", "y")}),
        ([1.0, 2.0], "prompt", None, {}),
    ):
        with pytest.raises(ValueError, match=r"axes|labels"):
            hand_made.measured(values, axes, prompts, **labels)
    assert hand_made.measured([[1.0, 2.0]] * 3, "a", on).size("a") == 3


def test_pooled_entries_are_further_prompts_of_the_same_contexts() -> None:
    on = hand_made.prompts(2, {"query": [5, 6]})
    measured = hand_made.measured([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]], "model repeat", on, model=("a",))
    pooled = measured.pooled("repeat")
    assert (pooled.axes, dict(pooled.labels)) == (("model", "prompt"), {"model": ("a",)})
    assert pooled.values.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert pooled.clusters.tolist() == [0, 1] * 3
    assert pooled.prompts is not None
    assert pooled.prompts.texts == on.texts * 3
    assert torch.equal(pooled.prompts.facets["query"], torch.tensor([5, 6] * 3))


def test_a_comparison_is_shown_as_its_three_tables() -> None:
    one = Result("cmap", {"form": "output"}, {"a": hand_made.measured([1.0, 2.0], "model")})
    other = Result("cmap", {"form": "input"}, {"a": hand_made.measured([1.0, 2.5], "model")})
    compared = one.compare(other)
    assert compared.tables == (compared.settings, compared.values, compared.changes)
    assert compared._repr_html_() == "".join(table.to_html() for table in compared.tables)
    assert "<td>facts.form</td><td>output</td><td>input</td>" in compared._repr_html_()
    assert "<td>a</td><td>0.5000</td><td></td>" in compared._repr_html_()


def test_the_most_memory_is_told_where_it_is_known() -> None:
    assert terminal.memory_lines({"memory": 3 * 2**29}) == ["at most 1.5 GiB of memory"]
    both = {"memory": 2**30, "accelerator": 5 * 2**30}
    assert terminal.memory_lines(both) == ["at most 1.0 GiB of memory and 5.0 GiB of accelerator"]
    assert terminal.memory_lines({}) == terminal.memory_lines({"accelerator": 0}) == []


def test_memory_that_was_held_is_in_the_peak() -> None:
    before = peak_memory()["memory"]
    held = bytearray(2**26)
    held[::4096] = b"x" * (2**26 // 4096)
    assert peak_memory()["memory"] >= 2**26
    assert before <= peak_memory()["memory"] < 2**40
