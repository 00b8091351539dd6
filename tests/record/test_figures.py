"""What a figure of any method owes its reader: named axes, a legend, a scale, and intervals that the table has."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.container import BarContainer
from matplotlib.ticker import ScalarFormatter

from entitrack.core.statistics.estimates import Estimate
from entitrack.methods import method_names
from tests.methods import hand_made
from tests.record.small_runs import Runs

DRAWN = sorted(set(method_names()) - {"desiderata"})


@pytest.fixture
def panels(request: pytest.FixtureRequest, runs: Runs) -> list[Any]:
    """The panels of a method's figure."""
    figure = runs(request.param)[0].figure()
    assert figure is not None
    figure.canvas.draw()
    return list(figure.axes)


def is_scale(panel: Any) -> bool:
    """Whether it is the bar that says what colours mean."""
    return panel.get_label() == "<colorbar>"


def are_numbers(axis: Any) -> bool:
    """Whether an axis counts something, which a reader must be told; names, as of heads, speak for themselves."""
    texts = [label.get_text().replace("\u2212", "") for label in axis.get_ticklabels()]
    if isinstance(axis.get_major_formatter(), ScalarFormatter):
        return bool(texts)
    return any(text.isdigit() for text in texts)


@pytest.mark.parametrize("panels", DRAWN, indirect=True)
def test_axes_of_numbers_are_named(panels: list[Any]) -> None:
    """Of panels side by side the first one's name of the upright axis holds for all."""
    (first, *others) = [panel for panel in panels if not is_scale(panel)]
    for axis in (first.xaxis, first.yaxis, *(panel.xaxis for panel in others)):
        assert axis.get_label_text() or not are_numbers(axis)


@pytest.mark.parametrize("panels", DRAWN, indirect=True)
def test_every_figure_says_of_what_it_is(panels: list[Any]) -> None:
    for panel in panels:
        named = panel.get_title() or panel.get_ylabel() or panel.figure.get_suptitle() or len(panels) == 2
        assert is_scale(panel) or named


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("attention_knockout", {"llama"}),
        ("cmap", {"llama", "float"}),
        ("completeness", {"llama"}),
        ("dcm", {"llama"}),
        ("positions", {"llama"}),
    ],
)
def test_models_that_no_axis_names_are_in_the_title(method: str, names: set[str], runs: Runs) -> None:
    figure = runs(method)[0].figure()
    assert figure is not None
    assert names <= set(figure.axes[0].get_title().replace(":", " ").split())


@pytest.mark.parametrize("panels", DRAWN, indirect=True)
def test_curves_that_have_names_are_in_a_legend(panels: list[Any]) -> None:
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        legends = [legend for legend in (panel.get_legend(), *panel.figure.legends) if legend]
        shown = [text.get_text() for legend in legends for text in legend.get_texts()]
        assert not handles or shown == labels


@pytest.mark.parametrize("panels", DRAWN, indirect=True)
def test_colours_are_told_and_are_of_all_shares_or_even_about_nothing(panels: list[Any]) -> None:
    """By a bar, or by the number in every cell."""
    scales = [panel for panel in panels if is_scale(panel)]
    for panel in (panel for panel in panels if panel.images and not is_scale(panel)):
        (picture,) = panel.images
        low, high = picture.get_clim()
        assert (low, high) == (0, 1) or math.isclose(low, -high)
        assert all(panel.get_ylabel() for panel in scales) or (low, high) != (0, 1), "shares of what"
        assert scales or len(panel.texts) == picture.get_array().count()


WITH_INTERVALS = sorted(set(DRAWN) - {"activation_patching", "attribution", "dcm", "path_patching"})
"""The others draw pictures, with half of an interval's width as text, or points."""


def ends(panel: Any) -> list[tuple[float, float]]:
    """Both ends of every interval that is drawn."""
    found = []
    for container in panel.containers:
        bars = container.errorbar if isinstance(container, BarContainer) else container
        assert bars is not None, "a bar without its interval"
        _, _, lines = bars
        directions = [0] * bars.has_xerr + [1] * bars.has_yerr
        for along, line in zip(directions, lines, strict=True):
            for segment in line.get_segments():
                found.append((round(float(segment[:, along].min()), 6), round(float(segment[:, along].max()), 6)))
    return found


@pytest.mark.parametrize("method", WITH_INTERVALS)
def test_intervals_that_are_drawn_are_those_that_are_printed(method: str, runs: Runs) -> None:
    result, _ = runs(method)
    cells = [cell for table in result.tables for row in table.rows for cell in row if isinstance(cell, Estimate)]
    printed = {(round(min(cell.low, cell.value), 6), round(max(cell.high, cell.value), 6)) for cell in cells}
    figure = result.figure()
    assert figure is not None
    shown = [end for panel in figure.axes for end in ends(panel)]
    assert len(shown) > 1 or method in {"ablation", "cmap_map"}, "a map has no intervals"
    assert set(shown) <= printed


@pytest.mark.parametrize("method", ["cmap", "minimality"])
def test_lists_of_bars_are_read_from_above_and_on_one_scale(method: str, runs: Runs) -> None:
    figure = runs(method)[0].figure()
    assert figure is not None
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    shown = [0.0, *(end for panel in figure.axes for both in ends(panel) for end in both)]
    widest = max(shown) - min(shown)
    for panel in figure.axes:
        bottom, top = panel.get_ylim()
        assert bottom > top
        left, right = panel.get_xlim()
        assert all(left <= low and high <= right for low, high in [*ends(panel), (0, 0)])
        assert right - left <= 1.2 * max(1 if method == "cmap" else 0, widest)
        if method == "minimality":
            assert [line for line in panel.lines if hand_made.across(line) == [0, 0]], "a line where nothing is lost"
