"""Growth of the live positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure


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


def notes(result: Result) -> Sequence[str]:
    """What is live, and what the order means."""
    return (
        "all heads work at the live places and are ablated at the others; a place of several tokens is one choice",
        "the last token is live first; where no place helps by itself, the best two are added",
        "among equals the larger logit difference decides; intervals do not cover the choice",
        "95 % intervals over contexts, paired for ratios",
    )


def figure(result: Result) -> Figure:
    """F as places are added, with intervals; what the other places would have given, as dots; the model's own F."""
    facts, values = result.facts, measured(result)
    steps = facts["steps"]
    drawn, axes = new_figure(width=1.6 + 1.1 * (len(steps) + 1))
    axis = axes[0, 0]
    for number in range(len(steps)):
        means = list(others(result, number).values())
        axis.plot([number + 1] * len(means), means, "_", color=BASE, markersize=10)
    grown = [values.estimate(live=number) for number in range(len(steps) + 1)]
    heights = [entry.value for entry in grown]
    axis.errorbar(range(len(grown)), heights, error_bars(grown), marker="o", color=ACCENT, capsize=3)
    full = values.estimate(live=_all(result)).value
    axis.axhline(full, color=DONOR, linestyle="--", linewidth=1, label="whole model")
    names = ["none", *("\n".join(f"+ {place}" for place in step["places"]) for step in steps)]
    axis.set_xticks(range(len(grown)), names, fontsize=8)
    axis.set_ylabel(f"F: {facts['metric']}, 95 % interval")
    axis.set_title(f"Live positions in {facts['model']}", fontsize=10)
    axis.legend(fontsize=8)
    return drawn
