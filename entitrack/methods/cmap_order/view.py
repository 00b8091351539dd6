"""The order as a table and as a curve, beside random heads."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.drawing import (
    BASE,
    RANDOM,
    TESTED,
    Band,
    Curve,
    Drawing,
    Line,
    Plot,
    member_hues,
    point,
    sizes_of,
    spoken,
)
from entitrack.core.parts import Origin
from entitrack.core.result import Result
from entitrack.core.statistics.controls import different, rank_p
from entitrack.core.table import Cell, Table
from entitrack.methods.cmap.view import recipient

_NOTES = (
    "the order is greedy: at each step the unit that brings the recipient closest to the donor, by accuracy on the"
    " prompts that things are chosen on; ties go to the mean probability of the right answer, then to the unit's place",
    "adds: to the step before; alone: what the unit gains by itself; loses: the whole without it, heads that another"
    " unit has too stay",
    "95 % intervals over contexts, paired for differences",
)
_CONTROLS = (
    "random heads: as many at the same roles, added step by step; none of the chain's own while there are others",
    "sets: different ones that the chains come to at that step; p: share of them, counting the chain's own, that are as"
    " far towards the donor; shared: how many of the chain's own heads are among the random ones, on average",
)


def tables(result: Result) -> Sequence[Table]:
    """The chain, each unit by itself, the chain beside random heads, and what it was chosen from."""
    beside = (_random_table(result),) if "control.own" in result.measurements else ()
    return (_chain_table(result), _single_table(result), *beside, _search_table(result))


def _chain_table(result: Result) -> Table:
    facts, correct, units = result.facts, result["correct"], _units(result)
    into = recipient(facts)
    rows: list[tuple[Cell, ...]] = [
        (f"{facts['base']} ({into})", None, correct.estimate(kind="base", unit=units[0]), None, None)
    ]
    for step, (unit, heads) in enumerate(zip(units, facts["heads"], strict=True)):
        before = {"kind": "added", "unit": units[step - 1]} if step else {"kind": "base", "unit": unit}
        adds = correct.difference({"kind": "added", "unit": unit}, before)
        rows.append((f"+ {unit}", heads, correct.estimate(kind="added", unit=unit), adds, share(result, "added", unit)))
    whole = facts["whole"]
    if whole["units"] > len(units):
        label, share_of_all = f"all {whole['units']} units", share(result, "whole", units[0])
        rows.append((label, whole["heads"], correct.estimate(kind="whole", unit=units[0]), None, share_of_all))
    rows.append((f"{facts['donor']} (donor)", None, correct.estimate(kind="donor", unit=units[0]), None, None))
    columns = ("model", "heads", "accuracy [95 %]", "adds [95 %]", "of the gap")
    what = f"z of the circuit's {facts['units']}, one after another, n {correct.size('prompt')}"
    return Table(f"Order of CMAP: {facts['donor']} -> {facts['base']}, {what}", columns, tuple(rows))


def _single_table(result: Result) -> Table:
    """What each unit does without the others, and the others without it."""
    correct, rows = result["correct"], []
    for unit in _units(result):
        alone, base = {"kind": "alone", "unit": unit}, {"kind": "base", "unit": unit}
        whole, left_out = {"kind": "whole", "unit": unit}, {"kind": "left out", "unit": unit}
        gain, loss = correct.difference(alone, base), correct.difference(whole, left_out)
        rows.append((unit, gain, share(result, "alone", unit), loss))
    columns = ("unit", "alone: gains [95 %]", "of the gap", "whole without it: loses [95 %]")
    return Table("Each by itself, and the whole without it", columns, tuple(rows))


def _random_table(result: Result) -> Table:
    """The chain beside random heads that are added in its steps."""
    own, drawn, correct = result["control.own"], result["control.correct"], result["correct"]
    rows: list[tuple[Cell, ...]] = []
    units = _units(result)
    towards = -1 if correct.means(kind="donor", unit=units[0]) < correct.means(kind="base", unit=units[0]) else 1
    for unit in _units(result):
        # Chains that differ in an earlier step may come to one set of heads.
        differ = different(result["control.heads"].at(unit=unit).values)
        means, accuracy = drawn.means(unit=unit)[differ], float(own.means(unit=unit))
        p = rank_p(accuracy, means.numpy(), towards)
        quantiles = [float(means.quantile(at)) for at in (0.5, 0.05, 0.95)]
        shared = float(result["control.shared"].at(unit=unit).values.double().mean())
        gain = result["control.gain"].estimate(unit=unit)
        rows.append((f"+ {unit}", accuracy, *quantiles, len(means), p, gain, shared))
    columns = ("model", "accuracy", "median", "5 %", "95 %", "sets", "p", "gain [95 %]", "shared")
    title = f"Beside random heads, {drawn.size('draw')} different chains, n {own.size('prompt')}"
    return Table(title, columns, tuple(rows))


def _search_table(result: Result) -> Table:
    """At every step what was taken, and the best that was not."""
    tried = result["search.accuracy"]
    taken: set[str] = set()
    rows: list[tuple[Cell, ...]] = []
    for unit in _units(result):
        taken.add(unit)
        others = [name for name in tried.names("candidate") if name not in taken]
        ranked = {name: _worth(result, unit, name) for name in others}
        second = (min if result.facts["towards"] < 0 else max)(others, key=ranked.__getitem__) if others else None
        rows.append((unit, *_worth(result, unit, unit), second, *(ranked[second] if second else (None, None))))
    columns = ("taken", "accuracy", "probability", "next best", "its accuracy", "its probability")
    return Table(f"How it was chosen, n {result.facts['searched']['prompts']}", columns, tuple(rows))


def _worth(result: Result, unit: str, candidate: str) -> tuple[float, float]:
    where = {"unit": unit, "candidate": candidate}
    return result["search.accuracy"].number(**where), result["search.probability"].number(**where)


def share(result: Result, kind: str, unit: int | str) -> float | None:
    """What is gained, of what the donor has over the recipient; None where that may be nothing."""
    base, correct = {"kind": "base", "unit": unit}, result["correct"]
    gap = correct.difference({"kind": "donor", "unit": unit}, base)
    if not (gap.low > 0 or gap.high < 0):
        return None
    return correct.difference({"kind": kind, "unit": unit}, base).value / gap.value


def _units(result: Result) -> tuple[str, ...]:
    return result["correct"].names("unit")


def headline(result: Result) -> str:
    """What the first unit brings by itself, and all of them."""
    units = _units(result)
    first, last = share(result, "added", units[0]), share(result, "added", units[-1])
    if first is None or last is None:
        return f"{units[0]} first; the donor is not surely better or worse"
    return f"{units[0]} first, {first:.2f} of the gap; {len(units)} units {last:.2f}"


def notes(result: Result) -> Sequence[str]:
    """How it was found, and what was left out."""
    facts = result.facts
    told = {name: value for name, value in facts["searched"].items() if name != "prompts"}
    twins = [f"{name} has the heads of {other}, and is left out" for name, other in facts["twins"]]
    empty = [f"group {name} has no heads, and is left out" for name in facts["empty"]]
    beside = _CONTROLS if "control.own" in result.measurements else ()
    return (*_NOTES, *beside, Origin(**told).note, *twins, *empty)


def claim(result: Result) -> str:
    """What the first unit brings, and the whole chain, beside random chains."""
    facts, units = result.facts, _units(result)
    first, last = (result["correct"].estimate(kind="added", unit=unit) for unit in (units[0], units[-1]))
    base = result["correct"].estimate(kind="base", unit=units[0])
    brought = share(result, "added", units[0])
    of_gap = f" ({brought:.2f} of the gap)" if brought is not None else ""
    beside = ""
    if "control.own" in result.measurements:
        median = float(result["control.correct"].means(unit=units[0]).quantile(0.5))
        beside = f"; random heads in their place {median:.3f}"
    return (
        f"Of {facts['donor']}'s {facts['units']}, {spoken(units[0])} comes first: with it {facts['base']}"
        f" answers {first} rightly, without {base}{of_gap}{beside}. With all {len(units)} it answers {last}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "An order is greedy: what a later unit adds depends on those before it.",
        "A unit that adds nothing after another may do the same as that one by itself.",
    )


def drawing(result: Result) -> Drawing:
    """Accuracy along the chain, with intervals; base, donor and the middle of the random chains beside it."""
    facts, correct, units = result.facts, result["correct"], _units(result)
    hues = member_hues(result, (facts["base"], facts["donor"]))
    added = [correct.estimate(kind="added", unit=unit) for unit in units]
    points = (point(step, entry, f"+ {units[step]}: {entry}") for step, entry in enumerate(added))
    curves = [Curve("the order", TESTED, tuple(points))]
    bands: tuple[Band, ...] = ()
    if "control.correct" in result.measurements:
        means = result["control.correct"].means()
        low, middle, high = (means.quantile(at, 1).tolist() for at in (0.05, 0.5, 0.95))
        curves.append(Curve("random heads, median", RANDOM, tuple(map(point, range(len(units)), middle)), "dotted"))
        bands = (Band("5 to 95 % of random", RANDOM, tuple(range(len(units))), tuple(low), tuple(high)),)
    lines = tuple(
        Line(float(correct.means(kind=kind, unit=units[0])), "across", hue, f"{facts[kind]} ({role})")
        for kind, role, hue in (("base", recipient(facts), BASE), ("donor", "donor", hues[facts["donor"]]))
    )
    names = tuple(f"+ {spoken(unit)}" for unit in units)
    plot = Plot("", "added one after another", "accuracy", tuple(curves), bands, lines, names, y_limits=(0, 1.02))
    title = f"CMAP in order: {facts['donor']} into {facts['base']}"
    return Drawing(title, (plot,), None, ("Bars: 95 % intervals over contexts.",), sizes_of(correct.prompts))
