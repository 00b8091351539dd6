"""F by first blocked layer, as tables and as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entitrack.core.drawing import RANDOM, TESTED, Curve, Drawing, Plot, point, sizes_of, spoken
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.attention_knockout.settings import RANDOM as RANDOM_POSITION
from entitrack.methods.outcomes import measured


def tables(result: Result) -> Sequence[Table]:
    """F by first blocked layer: a table a source, a column a target."""
    sources = dict.fromkeys(edge["source"] for edge in result.facts["edges"])
    return tuple(_table(result, source) for source in sources)


def _table(result: Result, source: str) -> Table:
    facts, values = result.facts, measured(result)
    curves = {
        edge["target"] or RANDOM_POSITION: curve(result, number)
        for number, edge in enumerate(facts["edges"])
        if edge["source"] == source
    }
    rows: list[tuple[Cell, ...]] = [
        ("none" if layer == "none" else f"from {layer}", *(estimates[number] for estimates in curves.values()))
        for number, layer in enumerate(values.names("first_blocked"))
    ]
    n = values.size("prompt")
    title = f"{facts['model']}, what {source} no longer sees; F is {facts['metric']} [95 %], n = {n}"
    return Table(title, ("layers blocked", *curves), tuple(rows))


def curve(result: Result, edge: int) -> list[Estimate]:
    """Mean F of the edge of that number, by first blocked layer."""
    values = measured(result)
    return [values.estimate(edge=edge, first_blocked=first) for first in range(values.size("first_blocked"))]


def headline(result: Result) -> str:
    """The edge without which least is left."""
    edges = result.facts["edges"]
    least = {number: min(curve(result, number), key=lambda estimate: estimate.value) for number in range(len(edges))}
    lowest = min(least, key=lambda number: least[number].value)
    whole = next(estimate for estimate in reversed(curve(result, lowest)))
    where = f"{edges[lowest]['source']} to {edges[lowest]['target'] or RANDOM}"
    return f"F {whole} falls to {least[lowest]} without {where}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    return (
        "from k: in layers k and after, no head attends from the first role to the second",
        f"{RANDOM_POSITION}: one a prompt, before the source, neither the first token nor a target of that source",
        "95 % intervals over contexts",
    )


def claim(result: Result) -> str:
    """The edge that the answer needs most, beside a random position of the same source."""
    facts = result.facts
    edges = {number: edge for number, edge in enumerate(facts["edges"]) if edge["target"]}
    if not edges:
        return f"In {facts['model']} only random positions were blocked."
    curves = {number: curve(result, number) for number in edges}
    worst = min(edges, key=lambda number: curves[number][0].value)
    whole, source = curves[worst][-1], edges[worst]["source"]
    control = [number for number, edge in enumerate(facts["edges"]) if not edge["target"] and edge["source"] == source]
    beside = f"; where it never sees a random position, {curve(result, control[0])[0]}" if control else ""
    return (
        f"Where the {spoken(source)} token never sees the {spoken(edges[worst]['target'])}, {facts['model']} has"
        f" {facts['metric']} {curves[worst][0]} of {whole}{beside}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "That nothing is lost does not say that no information flows there: it may come another way.",
        "Only the edges of the task are tried, each from some layer on up to the last.",
    )


def drawing(result: Result) -> Drawing:
    """F against the first blocked layer, a panel an edge beside its control; the last point blocks nothing."""
    facts, values = result.facts, measured(result)
    edges = list(enumerate(facts["edges"]))
    controls = {edge["source"]: number for number, edge in edges if not edge["target"]}
    shown = [(number, edge) for number, edge in edges if edge["target"]] or edges
    names = values.names("first_blocked")
    panels = []
    for number, edge in shown:
        curves = [_drawn(result, number, "attention to this position blocked" if edge["target"] else "")]
        if edge["target"] and edge["source"] in controls:
            curves.append(_drawn(result, controls[edge["source"]], "attention to a random position blocked", RANDOM))
        title = f"{spoken(edge['source'])} → {spoken(edge['target'] or RANDOM_POSITION)}"
        y, x = f"{facts['metric']} (F)", "first layer blocked"
        panels.append(
            Plot(title, x, y, tuple(curves), x_names=names, y_limits=(0, 1.02) if _are_shares(facts) else None)
        )
    title = f"Attention knockout in {facts['model']}: from a layer on, one position no longer sees another"
    notes = ("'none': nothing is blocked. Bars: 95 % intervals over contexts; the control is drawn a little aside.",)
    return Drawing(title, tuple(panels), None, notes, sizes_of(values.prompts))


def _drawn(result: Result, edge: int, label: str, hue: str = TESTED) -> Curve:
    aside = 0.12 if hue == RANDOM else 0
    points = (point(number + aside, entry, told=str(entry)) for number, entry in enumerate(curve(result, edge)))
    return Curve(label, hue, tuple(points), "dotted" if hue == RANDOM else "solid")


def _are_shares(facts: Mapping[str, Any]) -> bool:
    return facts["metric"] in ("accuracy", "probability")
