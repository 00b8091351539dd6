"""Two areas and a few points of every curve, beside random orders; and the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float

from entitrack.core.drawing import RANDOM, Curve, Drawing, Line, Plot, member_hues, point, sizes_of
from entitrack.core.parts import Origin
from entitrack.core.result import Result
from entitrack.core.statistics.controls import rank_p
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table, as_text
from entitrack.methods.circuit_curve.areas import area_from_1, curve_of, random_curves, trapezoids
from entitrack.methods.outcomes import measured

LEVELS = (0.8, 0.95)
"""What f is to reach."""
_QUANTILES = (0.05, 0.5, 0.95)
_ORDERS = {
    "alone": "the unit whose removal alone from all units costs most logit difference comes first",
    "circuit": "the circuit's units come first, the first of every group, the second of every group, ...; then those"
    " whose removal alone from all units costs most logit difference",
    "greedy": "the unit that adds most logit difference to those before it comes next",
}


def tables(result: Result) -> Sequence[Table]:
    """The areas beside those of random orders, and points of the curves."""
    drawn, facts = "random" in result.measurements, result.facts
    rows: list[tuple[Cell, ...]] = []
    for model, ablation in cases(result):
        curve = curve_of(result, model, ablation)
        beside: tuple[Cell, ...] = ()
        if drawn:
            _, median, _, _, p = random_areas(result, model, ablation)[0]
            beside = (median, p)
        ends = (_units(curve.reaching(LEVELS[0])), given_share(result, model, ablation))
        rows.append((model, ablation, curve.cpr(), curve.cmd(), *beside, *ends))
    columns = ("model", "ablation", "CPR [95 %]", "CMD [95 %]", *("random", "p") * drawn)
    columns = (*columns, _reached(LEVELS[0]), "F(C)/F(M) [95 %]")
    units, n = facts["units"], measured(result).size("prompt")
    title = f"Circuits of 0 to {units} heads at roles, order {facts['order']!r}; F is {facts['metric']}, n {n}"
    main = Table(title, columns, tuple(rows))
    return (main, _points(result), _random_table(result)) if drawn else (main, _points(result))


def cases(result: Result) -> Sequence[tuple[str, str]]:
    """Every model under every ablation."""
    values = measured(result)
    return list(product(values.names("model"), values.names("ablation")))


def given_share(result: Result, model: str, ablation: str) -> Estimate:
    """F(C)/F(M) of the given circuit, as `method=faithfulness` has it."""
    circuit, whole = ({"model": model, "ablation": ablation, "circuit": name} for name in ("circuit", "model"))
    return measured(result).ratio(circuit, whole)


def _units(size: int | None) -> Cell:
    return "never" if size is None else size


def _number(value: float) -> Cell:
    """A number, and nothing where there is none."""
    return None if np.isnan(value) else float(value)


def _reached(level: float) -> str:
    return f"f {f'{level:g}'.removeprefix('0')} at"


def _points(result: Result) -> Table:
    """F at both ends of every curve; the given circuit, and the order's of its size."""
    rows: list[tuple[Cell, ...]] = []
    heads = result.facts["heads"]
    for model, ablation in cases(result):
        curve = curve_of(result, model, ablation)
        f, ends = curve.f(), (curve.model, curve.circuits[0], curve.circuits[-1])
        of_all = (*(float(values.mean()) for values in ends), _number(f[-1]))
        of_given = (float(curve.given.mean()), curve.f_of_given(), _number(f[curve.sizes.index(heads)]))
        rows.append((model, ablation, *of_all, *of_given, _units(curve.reaching(LEVELS[1]))))
    columns = ("model", "ablation", "F(M)", "F(none)", "F(all)", "f(all)", "F(C)", "f(C) [95 %]", f"f(first {heads})")
    title = f"Points of the curves; C is the given circuit, of {heads} heads at roles"
    return Table(title, (*columns, _reached(LEVELS[1])), tuple(rows))


def random_areas(result: Result, model: str, ablation: str) -> Sequence[tuple[Cell, ...]]:
    """Of CPR, then of CMD: quantiles of random orders, what the order has on the same prompts, and p."""
    curve = curve_of(result, model, ablation).first(result.facts["control_prompts"])
    weights = trapezoids(curve.sizes, curve.sizes[-1])
    f, of_random = curve.f(), random_curves(result, model, ablation)
    cpr = (float(f @ weights), of_random @ weights, 1)
    cmd = (float(area_from_1(f, weights)), area_from_1(of_random, weights), -1)
    return [_beside(own, drawn, sign) for own, drawn, sign in (cpr, cmd)]


def _beside(own: float, drawn: Float[np.ndarray, " order"], sign: int) -> tuple[Cell, ...]:
    """Quantiles of random orders, the own area, and the share that is at least as good, counting the own."""
    if np.isnan(own):
        return (None,) * 5
    return (*np.quantile(drawn, _QUANTILES).tolist(), own, rank_p(own, drawn, sign))


def _random_table(result: Result) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for model, ablation in cases(result):
        for name, beside in zip(("CPR", "CMD"), random_areas(result, model, ablation), strict=True):
            rows.append((model, ablation, name, *beside))
    orders, prompts = result["random"].size("order"), result.facts["control_prompts"]
    columns = ("model", "ablation", "area", "5 %", "median", "95 %", "the order", "p")
    return Table(f"Areas of {orders} random orders, on the first {prompts} prompts", columns, tuple(rows))


def headline(result: Result) -> str:
    """How good circuits of the first model are over all sizes, under every ablation."""
    first = cases(result)[0][0]
    areas = (f"{kind} {curve_of(result, model, kind).cpr()}" for model, kind in cases(result) if model == first)
    return f"CPR of {first}: {', '.join(areas)}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    facts, steps, heads = result.facts, ", ".join(map(str, result.facts["sizes"])), result.facts["heads"]
    without = [model for model, ablation in cases(result) if np.isnan(curve_of(result, model, ablation).f()[0])]
    beside = (
        "random: median CPR of random orders; p: share of random orders, counting this one, that do at least as well"
    )
    return (
        "f(C) = (F(C) - F(none)) / (F(M) - F(none)): M is the intact model, none the empty circuit",
        "a unit is a head at a role, and a circuit has the first units of the order; all other heads are ablated, at"
        " the roles and everywhere else, so f(all), of all units, may be below 1",
        f"order {facts['order']!r}: {_ORDERS[facts['order']]}; each model has its own under each ablation",
        "CPR: area under f, the higher the better; CMD: area under |1 - f|, 0 for what does as the model; over the"
        f" share of units from 0 to 1, by trapezoids between {steps} of them",
        f"{_reached(LEVELS[0])}: the least of these sizes whose f is that high; f(first {heads}): the order's circuit"
        " of the given one's size",
        "95 % intervals over contexts, CMD's by the jackknife; where f is 1 but for chance, chance keeps CMD above 0,"
        " and its interval holds the truth 90 times of 100",
        *[beside] * ("random" in result.measurements),
        Origin(**facts["order_origin"]).note,
        *[f"{model}: F(M) is not above F(none), so there is no f" for model in dict.fromkeys(without)],
    )


def claim(result: Result) -> str:
    """Both areas of every ablation in the first model, beside random orders."""
    model, told = measured(result).names("model")[0], []
    for of, ablation in cases(result):
        if of == model:
            curve, beside = curve_of(result, model, ablation), ""
            if "random" in result.measurements:
                _, median, _, _, p = random_areas(result, model, ablation)[0]
                beside = f" (random orders {as_text(median)}, p {as_text(p)})"
            told.append(f"{ablation} {curve.cpr()}{beside}")
    return f"Circuits of {model} of every size hold, by the area under f (CPR), {'; '.join(told)}."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Areas depend on the sizes tried and on the ablation; they are not shares of a mechanism.",
        "The order is found for each model and ablation by itself: curves of two models are of different circuits.",
    )


def drawing(result: Result) -> Drawing:
    """A panel an ablation: the curve of every model, the given circuit as a mark, random orders as thin lines."""
    values, facts = measured(result), result.facts
    panels = tuple(
        Plot(
            f"{ablation} ablation",
            f"share of the {facts['units']} heads at roles",
            f"f: {facts['metric']}, 1 is the model's",
            tuple(curve for model in values.names("model") for curve in _curves(result, model, ablation)),
            lines=(Line(1, "across"),),
            x_limits=(-0.03, 1.03),
        )
        for ablation in values.names("ablation")
    )
    title = f"Circuits of every size, order {facts['order']!r}"
    notes = (f"Mark with a bar: the circuit of {facts['heads']} heads, 95 % interval.",)
    return Drawing(title, panels, None, notes, sizes_of(values.prompts))


def _curves(result: Result, model: str, ablation: str) -> Iterator[Curve]:
    """Random orders, the order's curve, and the given circuit, of one model under one ablation."""
    facts, curve = result.facts, curve_of(result, model, ablation)
    hue = member_hues(result, measured(result).names("model"))[model]
    shares = [size / facts["units"] for size in facts["sizes"]]
    if "random" in result.measurements:
        for of_random in random_curves(result, model, ablation):
            points = tuple(point(x, float(y)) for x, y in zip(shares, of_random, strict=True))
            yield Curve("random orders", RANDOM, points, marks=False, faint=True)
    f = zip(facts["sizes"], shares, curve.f(), strict=True)
    yield Curve(
        model, hue, tuple(point(x, float(y), f"{model}, {size} heads: f {y:.3f}") for size, x, y in f), marks=False
    )
    given = curve.f_of_given()
    told = f"{model}, the circuit of {facts['heads']} heads: f {given}"
    yield Curve(f"{model}, the circuit", hue, (point(facts["heads"] / facts["units"], given, told),), "none")
