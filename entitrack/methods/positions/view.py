"""Growth of the live positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from entitrack.core.drawing import BASE, LEFT_OUT, TESTED, Curve, Drawing, Line, Plot, point, sizes_of, spoken
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured


def tables(result: Result) -> Sequence[Table]:
    """F as places are added; and what every place would have given."""
    facts, values = result.facts, measured(result)
    rows: list[tuple[Cell, ...]] = [("none", 0, *_estimates(result, 0), None)]
    for number, step in enumerate(facts["steps"]):
        second = max(((mean, name) for name, mean in others(result, number).items()), default=None)
        instead = f"{second[1]} ({second[0]:.3f})" if second else None
        rows.append((f"+ {step['name']}", step["tokens"], *_estimates(result, number + 1), instead))
    rows.append(("all", None, *_estimates(result, _all(result)), None))
    title = f"Live positions in {facts['model']}; F is {facts['metric']}, n = {values.size('prompt')}"
    columns = ("live", "tokens", "F [95 %]", "F/F(M) [95 %]", "second best instead")
    return (Table(title, columns, tuple(rows)),)


def others(result: Result, step: int) -> dict[str, float]:
    """Mean F with each candidate that was not chosen in a step."""
    candidates = result["candidates"]
    means = zip(candidates.names("candidate"), candidates.values[step].tolist(), strict=True)
    chosen = result.facts["steps"][step]["name"]
    return {name: mean for name, mean in means if name != chosen and not math.isnan(mean)}


def _estimates(result: Result, live: int) -> tuple[Estimate, Estimate]:
    """F with the places of that number live, and its share of F(M)."""
    values = measured(result)
    return values.estimate(live=live), values.ratio({"live": live}, {"live": _all(result)})


def _all(result: Result) -> int:
    """Number of the entry in which all places are live."""
    return measured(result).size("live") - 1


def headline(result: Result) -> str:
    """Which places suffice, and for how much."""
    steps = result.facts["steps"]
    _, share = _estimates(result, len(steps))
    return f"F/F(M) {share} with {', '.join(step['name'] for step in steps) or 'nothing'} live"


def notes(result: Result) -> Sequence[str]:
    """What is live, and what the order means."""
    return (
        "all heads work at the live places and are ablated at the others; a place of several tokens is one choice",
        "the last token is live first; where no place helps by itself, the best two are added",
        *_roles_note(result),
        "among equals the larger logit difference decides; intervals do not cover the choice",
        "95 % intervals over contexts, paired for ratios",
    )


def _roles_note(result: Result) -> list[str]:
    """Which of the live places stand once, and can so be roles."""
    roles = result.facts.get("roles")
    return [f"live places that stages and circuits may have as roles: {', '.join(roles)}"] if roles else []


def claim(result: Result) -> str:
    """The places that were made live, and what the model does with them alone."""
    steps = result.facts["steps"]
    grown, whole = (measured(result).estimate(live=live) for live in (len(steps), _all(result)))
    second = max(others(result, len(steps) - 1).values(), default=math.nan) if steps else math.nan
    instead = "" if math.isnan(second) else f" (the second best in place of the last one: {second:.3f})"
    return (
        f"With heads live at {', '.join(spoken(step['name']) for step in steps) or 'no place'} alone,"
        f" {result.facts['model']} has {result.facts['metric']} {grown} of {whole}{instead}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Growth is greedy: another set of places may do as well.",
        "Intervals do not cover the choice of places.",
    )


def drawing(result: Result) -> Drawing:
    """F as places are added, with intervals; what the other places would have given, as dots; the model's own F."""
    facts, values = result.facts, measured(result)
    steps = facts["steps"]
    tried = [
        point(number + 1, mean, f"{name} instead: {mean:.3f}")
        for number in range(len(steps))
        for name, mean in others(result, number).items()
    ]
    grown = (values.estimate(live=number) for number in range(len(steps) + 1))
    points = (point(number, entry, str(entry)) for number, entry in enumerate(grown))
    instead = [Curve("another place instead", LEFT_OUT, tuple(tried), "none", faint=True)] if tried else []
    curves = (*instead, Curve("places live so far", TESTED, tuple(points)))
    whole = Line(values.estimate(live=_all(result)).value, "across", BASE, f"whole {facts['model']}")
    names = ("none", *("\n".join(f"+ {spoken(place)}" for place in step["places"]) for step in steps))
    plot = Plot("", "place that is added", f"{facts['metric']} (F)", curves, lines=(whole,), x_names=names)
    title = f"Which positions suffice in {facts['model']}?"
    return Drawing(title, (plot,), None, ("Bars: 95 % intervals over contexts.",), sizes_of(values.prompts))
