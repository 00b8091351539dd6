"""What a figure of any method owes its reader: named axes, shared scales, told colours, and the table's intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from entitrack.core.drawing import Drawing, HeatMap, Plot, Rows, legend, spans
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.methods import method_names
from entitrack.record import figures
from tests.record.small_runs import Runs

DRAWN = sorted(set(method_names()) - {"desiderata"})
WITHOUT_SEARCH = ("stability", "compare")
"""What these draw is of searches or circuits, not of prompts."""


@pytest.fixture
def result(request: pytest.FixtureRequest, runs: Runs) -> Result:
    return runs(request.param)[0]


@pytest.fixture
def drawing(result: Result) -> Drawing:
    found = result.drawing()
    assert found is not None
    return found


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_axes_of_numbers_are_named(drawing: Drawing) -> None:
    for panel in drawing.panels:
        if isinstance(panel, Plot):
            assert panel.x
            assert panel.y
        elif isinstance(panel, Rows):
            assert panel.axis
            assert panel.names or not any(row.name[:1].isdigit() for row in panel.rows)
        else:
            for names in (panel.rows, panel.columns):
                assert names.label or not any(entry.isdigit() for entry in names.entries)


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_a_figure_says_of_what_it_is_and_how_to_read_it(result: Result, drawing: Drawing) -> None:
    assert drawing.title
    assert drawing.notes
    assert len(drawing.panels) == 1 or all(panel.title for panel in drawing.panels)
    caption = figures.caption(result, drawing)
    for told in (f"Method {result.method}", "family sparse", "task boxes", "seed 0"):
        assert told in caption
    if result.method not in WITHOUT_SEARCH:
        prompts, contexts = drawing.sizes or (0, 0)
        assert f"n {prompts} prompts of {contexts} contexts" in caption
        assert prompts >= contexts > 1


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_maps_have_one_scale_with_a_unit_and_texts_for_every_cell(drawing: Drawing) -> None:
    maps = [panel for panel in drawing.panels if isinstance(panel, HeatMap)]
    assert bool(maps) == (drawing.scale is not None)
    for panel in maps:
        assert drawing.scale is not None
        assert drawing.scale.label
        shown = [value for row in panel.values for value in row if not math.isnan(value)]
        assert all(drawing.scale.low <= value <= drawing.scale.high for value in shown)
        assert (drawing.scale.low == -drawing.scale.high) == (drawing.scale.worse is not None)
        shape = (len(panel.rows.entries), len(panel.columns.entries))
        for cells in (panel.values, panel.texts, panel.told):
            assert not cells or ((len(cells),) == shape[:1] and {len(row) for row in cells} == {shape[1]})
        gaps = len(shown) < shape[0] * shape[1]
        assert not gaps or any("Hatched" in note for note in drawing.notes)
        assert not panel.ringed or any("Ringed" in note for note in drawing.notes)


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_what_is_drawn_in_a_colour_is_named(drawing: Drawing) -> None:
    """By a legend, which has each hue, and each label once."""
    named = {hue for _, hue, _ in legend(drawing)}
    labels = [label for _, _, label in legend(drawing)]
    assert len(set(labels)) == len(labels)
    for panel in drawing.panels:
        if isinstance(panel, Plot):
            assert {curve.hue for curve in panel.curves} <= named
        if isinstance(panel, Rows):
            assert {mark.hue for row in panel.rows for mark in row.marks} <= named


def intervals(drawing: Drawing) -> Iterator[tuple[float, float]]:
    """Both ends of every interval that is drawn."""
    for panel in drawing.panels:
        if isinstance(panel, Rows):
            marks = [mark.value for row in panel.rows for mark in row.marks]
            yield from ((mark.low, mark.high) for mark in marks if isinstance(mark, Estimate))
        if isinstance(panel, Plot):
            points = [point for curve in panel.curves for point in curve.points]
            yield from ((point.low, point.high) for point in points)
            yield from ((point.left, point.right) for point in points)


MAPS = {"ablation", "activation_patching", "attribution", "cmap_map", "cmap_matrix", "dcm", "path_patching", "transfer"}
WITH_INTERVALS = sorted(set(DRAWN) - MAPS)
"""The others draw maps, with both ends as text, or points."""


@pytest.mark.parametrize("result", WITH_INTERVALS, indirect=True)
def test_intervals_that_are_drawn_are_those_that_are_printed(result: Result, drawing: Drawing) -> None:
    cells = [cell for table in result.tables for row in table.rows for cell in row if isinstance(cell, Estimate)]
    printed = {(round(cell.low, 6), round(cell.high, 6)) for cell in cells if not cell.without}
    shown = {(round(low, 6), round(high, 6)) for low, high in intervals(drawing) if math.isfinite(low)}
    assert shown
    assert shown <= printed


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_panels_of_one_quantity_have_one_scale_on_paper(result: Result, drawing: Drawing) -> None:
    figure = result.figure()
    assert figure is not None
    figure.canvas.draw()
    axes = [axis for axis in figure.axes if axis.get_visible() and axis.get_label() != "<colorbar>"]
    assert len(axes) == len(drawing.panels)
    ends = spans(drawing)
    for axis, panel in zip(axes, drawing.panels, strict=True):
        if isinstance(panel, HeatMap):
            low, high = axis.images[0].get_clim()
            assert drawing.scale is not None
            assert (low, high) == (drawing.scale.low, drawing.scale.high)
        else:
            assert axis.get_xlim() == pytest.approx(ends[panel.x if isinstance(panel, Plot) else panel.axis])


@pytest.mark.parametrize("result", DRAWN, indirect=True)
def test_no_texts_collide_or_leave_the_page(result: Result) -> None:
    """Names along an axis, titles side by side, what stands in cells, legend and caption."""
    figure = result.figure()
    assert figure is not None
    figure.canvas.draw()
    page = figure.bbox.padded(2)
    titles = [axis.title for axis in figure.axes if axis.get_title() and axis.get_visible()]
    for axis in figure.axes:
        if axis.get_visible():
            upright = [label for label in axis.get_yticklabels() if label.get_text() and label.get_visible()]
            assert apart(upright)
            assert apart([label for label in axis.get_xticklabels() if label.get_text() and not label.get_rotation()])
            assert apart([text for text in axis.texts if text.get_text()])
            for text in (*upright, axis.xaxis.label, axis.yaxis.label, axis.title):
                box = text.get_window_extent()
                assert not text.get_text() or (box.x0 >= page.x0 and box.x1 <= page.x1), text.get_text()
    assert apart(titles)
    for part in figure.subfigs:
        for text in (*part.texts, *(entry for listed in part.legends for entry in listed.get_texts())):
            box = text.get_window_extent()
            assert box.x0 >= page.x0
            assert box.x1 <= page.x1
            assert box.y0 >= page.y0


def apart(texts: list) -> bool:  # type: ignore[type-arg]
    """Whether no two texts overlap by more than a hair."""
    boxes = [text.get_window_extent() for text in texts]
    return not any(
        min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
        for number, one in enumerate(boxes)
        for other in boxes[:number]
    )


@pytest.mark.parametrize("kind", figures.FORMATS)
def test_a_figure_is_the_same_bytes_whenever_it_is_drawn(kind: str, runs: Runs) -> None:
    result = runs("attention_knockout")[0]
    first = figures.image(result, kind)
    assert first is not None
    assert first.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind])
    assert figures.image(result, kind) == first
