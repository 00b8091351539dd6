"""Figures as data: hues that mean the same everywhere, and scales that panels share."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from entitrack.core.drawing import (
    BASE,
    LEFT_OUT,
    RANDOM,
    TESTED,
    ColourScale,
    Curve,
    Drawing,
    Line,
    Mark,
    Plot,
    Row,
    Rows,
    even_scale,
    in_cell,
    legend,
    member_hues,
    point,
    spans,
)
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import FEW_CONTEXTS, Estimate
from entitrack.record.figures.colours import look
from entitrack.record.figures.page import columns_of
from entitrack.record.figures.panels import quantiles

SHARE = Estimate(0.0, 0.0, 0.176, 12)
FAMILY = {"base": "llama", "members": {"llama": {}, "vicuna": {}, "goat": {}, "float": {}}}


def test_a_member_has_one_hue_whatever_else_is_drawn() -> None:
    result = Result("cmap", {}, {}, provenance={"config": {"model": FAMILY}})
    assert member_hues(result, ["llama", "float"]) == {"llama": BASE, "float": "donor 2"}
    assert member_hues(result, ["float", "vicuna"]) == {"float": "donor 2", "vicuna": "donor 0"}
    alone = Result("cmap", {}, {})
    assert member_hues(alone, ["llama", "float"]) == {"llama": BASE, "float": "donor 0"}


def test_hues_differ_in_colour_or_shape() -> None:
    hues = [BASE, TESTED, RANDOM, LEFT_OUT, *(f"donor {number}" for number in range(6))]
    looks = [look(hue) for hue in hues]
    assert len({(one.paper, one.shape) for one in looks}) == len(hues)
    assert len({one.paper for one in looks[:7]}) == 7
    others = [look(f"other {number}") for number in range(8)]
    assert len({(one.paper, one.shape) for one in others}) == 8
    with pytest.raises(KeyError):
        look("colour 1")


def test_panels_of_one_quantity_share_its_ends() -> None:
    rows = [Rows("", "lost", "head", (Row("0.1", (Mark(value, TESTED),)),), (Line(0, "up"),)) for value in (-0.2, 0.8)]
    drawn = Drawing("", tuple(rows))
    assert spans(drawn)["lost"] == pytest.approx((-0.21, 0.84))
    limited = replace(rows[0], limits=(0, 1))
    assert spans(Drawing("", (limited, rows[1])))["lost"] == pytest.approx((-0.04, 1))
    estimates = Rows("", "lost", "head", (Row("0.1", (Mark(SHARE, TESTED),), draws=(0.5, math.nan)),))
    assert spans(Drawing("", (estimates,)))["lost"] == pytest.approx((-0.025, 0.525))


def test_a_plot_of_names_has_room_for_each() -> None:
    plot = Plot("", "step", "f", (Curve("a", TESTED, (point(0, SHARE), point(1, 0.5))),), x_names=("x", "y"))
    assert spans(Drawing("", (plot,))) == {"step": (-0.5, 1.5), "f": pytest.approx((-0.025, 0.525))}


def test_a_legend_names_each_thing_once() -> None:
    dots = Curve("dots", TESTED, (point(0, 1),), "none")
    plot = Plot("", "x", "y", (dots, dots, Curve("", BASE, ())), lines=(Line(0, "across", BASE, "base"),))
    rows = Rows("", "x", "", (Row("a", (Mark(1, TESTED, "dots"),), (0.1,)),))
    entries = legend(Drawing("", (plot, rows)))
    assert entries == [("mark", TESTED, "dots"), ("line", BASE, "base"), ("draws", RANDOM, "random heads")]


def test_a_scale_about_nothing_holds_all_numbers() -> None:
    scale = even_scale("lost", [0.25, -0.5, math.nan], "low")
    assert scale == ColourScale("lost", -0.5, 0.5, "low")
    assert even_scale("lost", [], "high") == ColourScale("lost", -1, 1, "high")
    assert [scale.depth(value) for value in (-0.5, 0, 0.25)] == [-1, 0, 0.5]
    root = replace(scale, root=True)
    assert [root.depth(value) for value in (-0.5, 0, 0.125)] == [-1, 0, 0.5]


def test_a_cell_has_both_ends_of_an_interval() -> None:
    assert in_cell(SHARE) == ".00\n[.00, .18]"
    assert in_cell(Estimate(1.0, 0.5, 1.0, 3)) == "1.00\n[.50, 1.00]"
    assert in_cell(Estimate(0.5, math.nan, math.nan, 3, FEW_CONTEXTS)) == ".50"


def test_a_point_takes_numbers_and_estimates() -> None:
    both = point(SHARE, Estimate(0.5, 0.25, 0.75, 3), "told")
    assert (both.x, both.y, both.low, both.high, both.left, both.right) == (0, 0.5, 0.25, 0.75, 0, 0.176)
    assert both.told == "told"
    assert math.isnan(point(1, 2).low)


def test_panels_stand_in_even_lines() -> None:
    assert columns_of([2.0]) == 1
    assert columns_of([2.0] * 3) == 3
    assert columns_of([2.0] * 4) == 2
    assert columns_of([9.0] * 2) == 1


def test_quantiles_are_linear_between_draws() -> None:
    assert quantiles([3.0, 1.0, 2.0]) == pytest.approx((1.1, 2.0, 2.9))
    assert quantiles([1.0]) == (1.0, 1.0, 1.0)
