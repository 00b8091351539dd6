"""Elements of the page: escaped, closed, and where values stand."""

from __future__ import annotations

import pytest

from entitrack.core.circuits import SHIPPED, Circuit, Group, read_circuit
from entitrack.core.drawing import HeatMap, Names, even_scale
from entitrack.record.report.axes import Scale, worded
from entitrack.record.report.circuits import draw_circuit, stages_of
from entitrack.record.report.maps import draw_map, told_of
from entitrack.record.report.marks import colours
from entitrack.record.report.markup import Markup, number, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "<b>", tag("i", "a & b"), title='"x"') == '<p title="&quot;x&quot;">&lt;b&gt;<i>a &amp; b</i></p>'
    assert (
        tag("div", ["a", Markup("<br>")], class_="c", hidden=True, data_tip=None) == '<div class="c" hidden>a<br></div>'
    )
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert tag("svg", viewBox="0 0 1 1", x1=0.5) == '<svg viewBox="0 0 1 1" x1="0.5"></svg>'
    assert [number(value) for value in (1.0, 0.125, -3.999)] == ["1", "0.12", "-4"]


def test_a_scale_has_round_ticks_and_keeps_values_within_it() -> None:
    scale = Scale((-0.21, 0.84), 10, 110)
    assert scale.ticks() == [0, 0.25, 0.5, 0.75]
    assert Scale((0, 1), 0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert [scale(value) for value in (-0.21, 0.84, 7)] == pytest.approx([10, 110, 110])
    assert worded(-0.5) == "\u22120.5"


def test_colours_go_from_white_to_red_where_the_answer_suffers() -> None:
    scale = even_scale("score", [-1.0, 0.5], "low")
    assert colours(scale, 0)[0] == "#ffffff"
    assert colours(scale, -1) == ("#b2182b", "#ee5467", True)
    assert colours(scale, 1)[0] == "#2166ac"
    assert colours(even_scale("lost", [1.0], "high"), 1)[0] == "#b2182b"


def test_a_map_tells_every_cell() -> None:
    panel = HeatMap("", Names("layer", ("0", "1")), Names("head", ("0", "1")), ((0.5, float("nan")), (-1.0, 0.0)),
                    told=(("q 1", ""), ("q 0", "")), ringed=((1, 0),), upward=True)  # fmt: skip
    assert told_of(panel, 1, 0) == "layer 1, head 0: -1; q 0; ringed"
    assert told_of(panel, 0, 1) == "layer 0, head 1: nothing measured"
    drawn, width, height = draw_map(panel, even_scale("", [1.0], "low"))
    assert sum("data-tip" in part for part in drawn) == 4
    assert sum('class="absent cell"' in part for part in drawn) == 1
    assert width > 0 < height


def test_a_circuit_has_a_column_a_group_and_an_arc_a_stage() -> None:
    circuit = read_circuit(str(SHIPPED["sparse"] / "llama.json"), family="")
    drawn, _, _ = draw_circuit(circuit)
    page = "".join(drawn)
    assert page.count('class="head cell"') == sum(len(group.heads) for group in circuit.groups)
    assert page.count('class="group"') == len(circuit.groups) + 1
    assert page.count('class="arc"') == len(stages_of(circuit)) == 5
    assert page.count(">empty<") == 1
    assert "value fetcher 0.0, rank 1 of 12" in page


def test_a_circuit_that_tells_no_stages_has_no_arcs() -> None:
    circuit = Circuit((Group("one", "last", ((3, 1), (40, 2))),), {"settings": "none"})
    page = "".join(draw_circuit(circuit)[0])
    assert 'class="arc"' not in page
    assert page.count('class="tick end"') == 2
