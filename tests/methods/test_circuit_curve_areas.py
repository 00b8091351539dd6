"""CPR and CMD worked out by hand, and what is shown of curves over circuit size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from entitrack.core.drawing import legend
from entitrack.core.result import Result
from entitrack.methods.circuit_curve.areas import Curve
from tests.methods import hand_made


def curve(model: list[float], *circuits: list[float]) -> Curve:
    rows = torch.tensor([model, *circuits], dtype=torch.float64)
    return Curve([0, 1, 4][: len(circuits)], rows[1:], rows[0], rows[-1], torch.arange(len(model)))


def test_areas_by_hand() -> None:
    """F(none) .2 and F(M) .6: f is 0, 1.5 and .5 at 0, 1/4 and all; trapezoids of 1/4 and 3/4."""
    of_ten = [curve([0.6] * 10, [0.2] * 10, [0.8] * 10, [0.4] * 10), curve([0.6], [0.2], [0.8], [0.4])]
    for one in of_ten:
        assert one.f() == pytest.approx([0, 1.5, 0.5])
        assert one.cpr().value == pytest.approx(0.25 * 0.75 + 0.75 * 1)
        assert one.cmd().value == pytest.approx(0.25 * 0.75 + 0.75 * 0.5)
        assert one.f_of_given().value == pytest.approx(0.5)
        assert (one.reaching(0.8), one.reaching(1.5001)) == (1, None)
    assert [one.cpr().without for one in of_ten] == [None, "too few contexts"]
    assert [one.cmd().without for one in of_ten] == [None, "too few contexts"]


def test_there_is_no_f_where_the_model_is_no_better_than_nothing() -> None:
    for whole in (0.1, 0.2):
        one = curve([whole] * 10, [0.2] * 10, [0.8] * 10, [0.4] * 10)
        assert np.isnan(one.f()).all()
        assert (str(one.cpr()), str(one.cmd()), one.reaching(0.0)) == ("no ratio", "no ratio", None)
    unsure = curve([1.0, 0.0] * 5, [0.2, 0.8] * 5, [0.8] * 10, [0.4] * 10)
    unsure = dataclasses.replace(unsure, model=unsure.model + 0.02)
    assert (unsure.cpr().without, unsure.cmd().without) == ("unbounded", "unbounded")


def test_intervals_hold_the_areas_and_no_distance_is_below_0() -> None:
    rng = np.random.default_rng(0)
    noisy = [(mean + rng.normal(0, 0.05, 40)).tolist() for mean in (0.6, 0.1, 0.6, 0.6)]
    one = curve(*noisy)
    for area in (one.cpr(), one.cmd()):
        assert area.low < area.value < area.high
    same = curve(noisy[0], [0.0] * 40, noisy[0], noisy[0])
    assert same.cmd().value == pytest.approx(0.125)
    near = dataclasses.replace(one, circuits=torch.stack([one.circuits[0], one.model, one.model]), sizes=[0, 0, 4])
    assert (near.cmd().value, near.cmd().low) == pytest.approx((0, 0), abs=1e-9)


F = {
    "a": [[0.6], [0.4], [0.2], [0.8], [0.4]],
    "b": [[0.1], [0.3], [0.2], [0.2], [0.2]],
}
RANDOM = [[0.2, 0.3, 0.4], [0.2, 0.44, 0.4], [0.2, 0.9, 0.4]]


def shown(random: bool = True) -> Result:
    labels = {"ablation": ("zero",), "model": ("a", "b"), "circuit": ("model", "circuit", "0", "1", "4")}
    rows = [[[value * 4 for value in F[name]] for name in ("a", "b")]]
    rows[0][0][0] = [0.7, 0.7, 0.5, 0.5]  # where random orders are run the model is better
    made = {"probability": hand_made.measured(rows, "ablation model circuit", hand_made.prompts(4), **labels)}
    if random:
        of_random = [[[[[7.0] * 3] * 3, RANDOM]] * 2]
        axes, labels = "ablation model metric order size", {name: labels[name] for name in ("ablation", "model")}
        labels |= {"metric": ("accuracy", "probability"), "size": ("0", "1", "4")}
        made["random"] = hand_made.measured(of_random, axes, None, **labels)
    origin = {"what": "the order", "contexts": 3, "shared": 1, "total": 4}
    facts = {"metric": "probability", "order": "alone", "units": 4, "sizes": [0, 1, 4], "heads": 1}
    return hand_made.laid_out("circuit_curve", {**facts, "control_prompts": 2, "order_origin": origin}, made)


def test_tables_show_what_was_measured() -> None:
    """f of `a` is 0, 1.5, .5 as above; on two prompts 0, 1.2, .4, and of random ones .2, .48 and 1.4 at one unit."""
    result = shown()
    main, points, random = result.tables
    assert main.title == "Circuits of 0 to 4 heads at roles, order 'alone'; F is probability, n 4"
    start = ("model", "ablation", "CPR [95 %]", "CMD [95 %]")
    assert main.columns == (*start, "random", "p", "f .8 at", "F(C)/F(M) [95 %]")
    a, b = hand_made.rows(main)
    assert a == ["a", "zero", 0.9375, 0.5625, 0.39, 0.5, 1, 0.666667]
    assert b[-2:] == ["never", 3.0]
    assert all(cell != cell for cell in b[2:4])
    assert b[4:6] == [None, None]
    assert hand_made.rows(points)[1][5:] == [None, 0.3, pytest.approx(float("nan"), nan_ok=True), None, "never"]
    columns = ("model", "ablation", "F(M)", "F(none)", "F(all)", "f(all)", "F(C)", "f(C) [95 %]", "f(first 1)")
    assert points.columns == (*columns, "f .95 at")
    assert hand_made.rows(points)[0] == ["a", "zero", 0.6, 0.2, 0.4, 0.5, 0.4, 0.5, 1.5, 1]
    assert random.title == "Areas of 3 random orders, on the first 2 prompts"
    assert random.columns == ("model", "ablation", "area", "5 %", "median", "95 %", "the order", "p")
    cpr, cmd = hand_made.rows(random)[:2]
    assert cpr == ["a", "zero", "CPR", 0.264, 0.39, 0.804, 0.75, 0.5]
    assert cmd == ["a", "zero", "CMD", 0.556, 0.61, 0.736, 0.45, 0.25]
    assert "b: F(M) is not above F(none), so there is no f" in result.notes
    assert not any(note.startswith("a:") for note in result.notes)
    assert "the order was found on 3 contexts; of the 4 contexts here 1 are among them" in result.notes
    assert str(hand_made.retold(result).tables) == str(result.tables)
    assert len(shown(random=False).tables) == 2
    assert shown(random=False).tables[0].columns == (*start, "f .8 at", "F(C)/F(M) [95 %]")


@pytest.mark.parametrize("random", [True, False])
def test_the_figure_draws_curves_the_circuit_and_random_orders(random: bool) -> None:
    (panel,) = hand_made.plots(shown(random))
    drawn = [(curve.label, hand_made.places(curve)) for curve in panel.curves]
    assert ("a", [(0.0, 0.0), (0.25, pytest.approx(1.5)), (1.0, pytest.approx(0.5))]) in drawn
    assert ("a, the circuit", [(0.25, pytest.approx(0.5))]) in drawn
    random_orders = [
        hand_made.places(curve) for curve in panel.curves if curve.label == "random orders" and curve.faint
    ]
    of_a = [[0.0, 0.2, 0.4], [0.0, 0.48, 0.4], [0.0, 1.4, 0.4]]
    for of_one in of_a:
        expected = [(x, pytest.approx(y)) for x, y in zip((0.0, 0.25, 1.0), of_one, strict=True)]
        assert (expected in random_orders) == random
    labels = [label for _, _, label in legend(hand_made.drawing(shown(random)))]
    assert labels == [*["random orders"] * random, "a", "a, the circuit", "b", "b, the circuit"]
    assert panel.lines[0].at == 1
