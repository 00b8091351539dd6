"""First-order scores as a method: agreement is measured as it is named."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest
import torch
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, numbers
from entitrack.core.ranks import ranked
from entitrack.core.result import Result
from entitrack.core.stages import Stage
from entitrack.methods import run_method
from entitrack.methods.attribution.method import agreement as rank_correlation
from entitrack.methods.attribution.method import overlap
from entitrack.methods.attribution.settings import Settings
from entitrack.methods.experiment import Experiment
from tests.methods import hand_made


def row(*values: float) -> Tensor:
    return torch.tensor([values])


def test_correlation_and_overlap_are_of_ranks() -> None:
    same = (row(-8.0, -1.0, 0.1, 7.0), row(-4.0, -3.0, -2.0, -1.0))
    assert rank_correlation(*same) == pytest.approx(1)
    assert overlap(*same, 2) == 1
    opposite = (row(4.0, 3.0, 2.0, 1.0), row(-4.0, -3.0, -2.0, -1.0))
    assert rank_correlation(*opposite) == pytest.approx(-1)
    assert overlap(*opposite, 2) == 0
    assert ranked(torch.tensor([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]


def test_heads_that_no_path_leads_from_do_not_count() -> None:
    unreached = (row(-2.0, -1.0, 9.0), row(-4.0, -3.0, 0.0))
    assert rank_correlation(*unreached) == pytest.approx(1)
    assert math.isnan(rank_correlation(row(1.0, 2.0), row(0.0, 3.0)))
    assert math.isnan(overlap(row(1.0, 2.0), row(0.0, 0.0), 1))


def test_every_stage_is_compared_on_the_same_prompts(golden_experiment: Experiment) -> None:
    stages = [
        Stage(name="value_fetcher", role="last"),
        Stage(name="pos_transmitter", role="last", component="q", receivers="value_fetcher"),
    ]
    begun = time.perf_counter()
    result = run_method("attribution", golden_experiment, Settings(force=True, stages=stages, top=3))
    assert float(result["seconds"].values.sum()) < time.perf_counter() - begun
    circuit = run_method("path_patching", golden_experiment, Settings(force=True, stages=stages).exact())
    assert result["rank_correlation"].number(stage="value_fetcher") > 0.5
    assert result["score"].values.shape == (2, 2, 4, 6)
    assert torch.equal(result["score"].at(kind="exact").values, circuit["score"].values)
    for kind in ("first order", "exact"):
        torch.testing.assert_close(result["score"].at(kind=kind).values, result["effect"].at(kind=kind).values.mean(-1))
    for stage in ("value_fetcher", "pos_transmitter"):
        first_order, exact = result["score"].at(stage=stage).values
        assert result["rank_correlation"].number(stage=stage) == pytest.approx(rank_correlation(first_order, exact))
        assert result["overlap"].number(stage=stage) == pytest.approx(overlap(first_order, exact, 3))
        assert result["seconds"].number(stage=stage) > 0


def two_stages() -> Result:
    stages = ("fetch", "bring")
    axes, labels = ("kind", "stage", "layer", "head"), {"kind": ("first order", "exact"), "stage": stages}
    first_order = [[[-0.5, 0.25], [-0.125, 0.0]], [[0.0, 0.0], [-1.0, 0.0]]]
    exact = [[[-0.25, 0.5], [-0.375, 0.0625]], [[-0.5, 0.0], [-2.0, 1.0]]]
    scores = torch.tensor([first_order, exact])
    prompts = hand_made.prompts(3)
    return Result(
        method="attribution",
        facts={"model": "base", "top": 2},
        measurements={
            "score": Measurement(scores, axes, labels),
            "effect": Measurement(scores[..., None].repeat(1, 1, 1, 1, 3), (*axes, PROMPT), labels, prompts),
            "rank_correlation": numbers({"fetch": 0.75, "bring": math.nan}, "stage"),
            "overlap": numbers({"fetch": 0.5, "bring": 1.0}, "stage"),
            "seconds": numbers({"fetch": 2.5, "bring": 0.125}, "stage"),
        },
    )


def test_tables_say_what_was_measured() -> None:
    result = hand_made.retold(two_stages())
    agreement, lowest = result.tables
    assert agreement.title == "Path patching of base to first order, against exact scores"
    assert agreement.columns == ("stage", "rank correlation", "overlap of top 2", "seconds")
    assert agreement.rows[0] == ("fetch", 0.75, 0.5, 2.5)
    name, correlation, *others = agreement.rows[1]
    assert (name, *others) == ("bring", 1.0, 0.125)
    assert isinstance(correlation, float)
    assert math.isnan(correlation)
    assert lowest.columns == ("stage", "layer.head", "first order", "exact")
    assert lowest.rows == (
        ("fetch", "1.0", -0.125, -0.375),
        ("fetch", "0.0", -0.5, -0.25),
        ("fetch", "1.1", 0.0, 0.0625),
        ("fetch", "0.1", 0.25, 0.5),
        ("bring", "1.0", -1.0, -2.0),
        ("bring", "0.0", 0.0, -0.5),
        ("bring", "0.1", 0.0, 0.0),
        ("bring", "1.1", 0.0, 1.0),
    )
    assert result.notes[0] == "over 3 prompts; nan: no path leads from any head"


def test_the_five_lowest_of_many_heads_are_listed() -> None:
    exact = torch.tensor([[7.0, -3.0, 5.0, -1.0], [4.0, -2.0, 6.0, 0.5]])
    scores = Measurement(torch.stack([exact + 10, exact])[:, None], ("kind", "stage", "layer", "head"), {
        "kind": ("first order", "exact"), "stage": ("fetch",)
    })  # fmt: skip
    one = {name: numbers({"fetch": 0.0}, "stage") for name in ("rank_correlation", "overlap", "seconds")}
    effect = hand_made.measured([[[[[0.0]]]]], "kind stage layer head", hand_made.prompts(1))
    result = Result("attribution", {"model": "base", "top": 2}, {"score": scores, "effect": effect, **one})
    _, lowest = hand_made.retold(result).tables
    assert [row[1:] for row in lowest.rows] == [
        ("0.1", 7.0, -3.0), ("1.1", 8.0, -2.0), ("0.3", 9.0, -1.0), ("1.3", 10.5, 0.5), ("1.0", 14.0, 4.0)
    ]  # fmt: skip


def test_the_figure_draws_exact_against_first_order() -> None:
    result = hand_made.retold(two_stages())
    first, second = hand_made.plots(result)
    for panel, stage in zip((first, second), ("fetch", "bring"), strict=True):
        scores = result["score"].at(stage=stage)
        exact, first_order = (scores.at(kind=kind).values.flatten().tolist() for kind in ("exact", "first order"))
        expected = [pair for pair in zip(exact, first_order, strict=True) if pair != (0, 0)]
        assert hand_made.places(panel.curves[0]) == expected
        assert (panel.x, panel.y) == ("exact score", "first-order score")
        assert [line.direction for line in panel.lines] == ["diagonal"]
    assert (first.title, second.title) == ("fetch\nrank correlation 0.75", "bring")
    assert first.curves[0].points[0].told == "head 0.0"


def test_a_stage_that_is_not_scored_is_told_and_has_no_panel() -> None:
    made = two_stages()
    scores = made["score"]
    kept = scores.values * torch.tensor([1.0, 0.0])[:, None, None]
    none = Measurement(kept, scores.axes, scores.labels)
    result = hand_made.retold(dataclasses.replace(made, measurements={**made.measurements, "score": none}))
    assert [panel.title for panel in hand_made.plots(result)] == ["fetch\nrank correlation 0.75"]
    assert "bring: no path leads from any head, so none is scored." in hand_made.drawing(result).notes
