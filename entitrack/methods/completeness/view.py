"""What is left of the circuit against what is left of the model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from entitrack.core.drawing import LEFT_OUT, Curve, Drawing, Line, Plot, other_hue, point, sizes_of, spoken
from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured


def tables(result: Result) -> Sequence[Table]:
    """Each group's removal, and the random sets together."""
    rows = [_row(result, number) for number in numbers(result, "nothing", "group")]
    columns = ("K", "heads", "F(M\\K) [95 %]", "F(C\\K) [95 %]", "F(M\\K) - F(C\\K) [95 %]", "n")
    title = f"Completeness in {result.facts['model']}; F is {result.facts['metric']}"
    main = Table(title, columns, tuple(rows))
    random = numbers(result, "random")
    return (main, _spread(result, random)) if random else (main,)


def numbers(result: Result, *kinds: str) -> list[int]:
    """Which of the sets are of some kinds."""
    return [number for number, removed in enumerate(result.facts["sets"]) if removed["kind"] in kinds]


def _row(result: Result, number: int) -> tuple[Cell, ...]:
    values, removed = measured(result), result.facts["sets"][number]
    ends = [{"rest_of": whose, "set": number} for whose in ("model", "circuit")]
    return (removed["name"], removed["heads"], *rests(result, number), values.difference(*ends), values.size("prompt"))


def rests(result: Result, number: int) -> tuple[Estimate, Estimate]:
    """F(M\\K) and F(C\\K) of the set of that number."""
    values = measured(result)
    return values.estimate(rest_of="model", set=number), values.estimate(rest_of="circuit", set=number)


def mean_rests(result: Result, sets: list[int]) -> tuple[Tensor, Tensor]:
    """F(M\\K) and F(C\\K) of some sets, without intervals."""
    values = measured(result)
    return values.means(rest_of="model")[sets], values.means(rest_of="circuit")[sets]


def _spread(result: Result, random: list[int]) -> Table:
    of_model, of_circuit = mean_rests(result, random)
    parts = {"F(M\\K)": of_model, "F(C\\K)": of_circuit, "|F(M\\K) - F(C\\K)|": (of_model - of_circuit).abs()}
    rows: list[tuple[Cell, ...]] = [
        (name, float(values.mean()), float(values.std(correction=0)), float(values.min()), float(values.max()))
        for name, values in parts.items()
    ]
    return Table(f"{len(random)} random sets K", ("", "mean", "deviation", "least", "most"), tuple(rows))


def headline(result: Result) -> str:
    """The group without which model and circuit differ most."""
    values, groups = measured(result), numbers(result, "group")
    gaps = {
        number: values.difference({"rest_of": "model", "set": number}, {"rest_of": "circuit", "set": number})
        for number in groups
    }
    if not gaps:
        return "no groups to remove"
    most = max(gaps, key=lambda number: abs(gaps[number].value))
    return f"F(M\\K) - F(C\\K) at most {gaps[most]}, K = {result.facts['sets'][most]['name']}"


def notes(result: Result) -> Sequence[str]:
    """What is ablated in each, and how intervals are made."""
    return (
        "M\\K: every head live everywhere, K ablated at its roles; C\\K: ablated outside the circuit, and K too",
        "95 % intervals over contexts, paired; a head that two groups have at one role goes from both",
        *published_notes(result.facts["quirks"]),
    )


def claim(result: Result) -> str:
    """The group after whose removal circuit and model differ most."""
    values, groups = measured(result), numbers(result, "group")
    if not groups:
        return f"No group of the circuit in {result.facts['model']} has heads to remove."
    apart = {
        number: values.difference({"rest_of": "model", "set": number}, {"rest_of": "circuit", "set": number})
        for number in groups
    }
    most = max(groups, key=lambda number: abs(apart[number].value))
    (of_model, of_circuit), without = rests(result, most), spoken(result.facts["sets"][most]["name"])
    return (
        f"Circuit and model of {result.facts['model']} are most unlike without the {without}s:"
        f" {result.facts['metric']} {of_circuit} and {of_model}, apart by {apart[most]}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Equal remains do not prove that the circuit is whole: other sets than these may tell it from the model.",
        "Random sets are of the circuit's own heads, and have no intervals.",
    )


def drawing(result: Result) -> Drawing:
    """F(C\\K) against F(M\\K), a point a set: groups with intervals, random sets as dots; and y = x."""
    facts, curves = result.facts, []
    dots = zip(*(values.tolist() for values in mean_rests(result, numbers(result, "random"))), strict=True)
    points = tuple(point(x, y, "a random set") for x, y in dots)
    curves += [Curve("random sets of the circuit's heads", LEFT_OUT, points, "none")] if points else []
    for place, number in enumerate(numbers(result, "nothing", "group")):
        removed, (across, up) = facts["sets"][number], rests(result, number)
        label = "nothing removed" if removed["kind"] == "nothing" else f"without {spoken(removed['name'])}"
        told = f"{label}: F(M\\K) {across}, F(C\\K) {up}"
        curves.append(Curve(label, other_hue(place), (point(across, up, told),), "none"))
    x, y = (
        f"F({whose}\\K): {facts['metric']} of {words}" for whose, words in (("M", "the model"), ("C", "the circuit"))
    )
    plot = Plot("", x, y, tuple(curves), lines=(Line(0, "diagonal", label="equal: complete"),))
    title = f"Completeness in {facts['model']}: what is left without K"
    return Drawing(title, (plot,), None, ("Bars: 95 % intervals over contexts.",), sizes_of(measured(result).prompts))
