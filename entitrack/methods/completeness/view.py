"""What is left of the circuit against what is left of the model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from matplotlib.figure import Figure
from torch import Tensor

from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import ACCENT, BASE, error_bars, new_figure


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


def notes(result: Result) -> Sequence[str]:
    """What is ablated in each, and how intervals are made."""
    return (
        "M\\K: every head live everywhere, K ablated at its roles; C\\K: ablated outside the circuit, and K too",
        "95 % intervals over contexts, paired; a head that two groups have at one role goes from both",
        *published_notes(result.facts["quirks"]),
    )


def figure(result: Result) -> Figure:
    """F(C\\K) against F(M\\K), a point a set: groups with intervals, random sets as dots; and y = x."""
    drawn, axes = new_figure(width=6.4, height=4.2)
    axis, facts, values = axes[0, 0], result.facts, measured(result)
    means = values.means()
    ends = [min(0.0, float(means.min())), max(1e-3, float(means.max()))]
    axis.plot(ends, ends, "--", color=BASE, linewidth=1, label="y = x: complete")
    axis.plot(*mean_rests(result, numbers(result, "random")), "o", color=BASE, markersize=4, label="random sets")
    for number, marker in zip(numbers(result, "nothing", "group"), cycle("os^Dv<>P*X"), strict=False):
        across, up = rests(result, number)
        bars = {"xerr": error_bars([across]), "yerr": error_bars([up])}
        removed = facts["sets"][number]
        label = "whole" if removed["kind"] == "nothing" else f"without {removed['name']}"
        axis.errorbar(across.value, up.value, fmt=marker, color=ACCENT, capsize=2, linewidth=1, label=label, **bars)
    axis.set_xlabel(f"F(M\\K): {facts['metric']}")
    axis.set_ylabel(f"F(C\\K): {facts['metric']}")
    axis.set_title(f"Completeness in {facts['model']}", fontsize=10)
    drawn.legend(loc="outside right upper", fontsize=8)
    return drawn
