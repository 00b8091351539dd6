"""How much each head of the circuit matters, and what is left without those that do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import ACCENT, BASE, error_bars, new_figure

LEAST_DENOMINATOR = 0.05
"""A ratio to something that may be this small says little."""


def tables(result: Result) -> Sequence[Table]:
    """The circuits' F, and the heads' scores."""
    facts, values = result.facts, measured(result)
    change = values.difference({"circuit": "pruned"}, {"circuit": "circuit"})
    before, after = (float(values.means(circuit=name)) for name in ("circuit", "pruned"))
    n = values.size("prompt")
    ends: list[tuple[Cell, ...]] = [
        ("circuit", facts["circuit_heads"], before, None, n),
        (f"pruned at {facts['threshold']}", facts["pruned_heads"], after, change, n),
    ]
    columns = ("group", "head", "in K", "F(C\\K)", "F(C\\(K+v))", "lost [95 %]", "ratio [95 %]", "score", "stays")
    rows = tuple(_row(result, number) for number in range(len(facts["heads"])))
    title = f"Minimality in {facts['model']}; F is {facts['metric']}"
    return (Table(title, ("", "heads", "F", "change [95 %]", "n"), tuple(ends)), Table("Scores", columns, rows))


def _row(result: Result, number: int) -> tuple[Cell, ...]:
    head, values = result.facts["heads"][number], measured(result, "removal.")
    ends = [float(values.means(stage=stage, head=number)) for stage in (0, 1)]
    stays = "yes" if score(result, number) >= result.facts["threshold"] else "no"
    apart = (drop(result, number), ratio(result, number))
    return (head["group"], head["label"], len(head["removed"]), *ends, *apart, score(result, number), stays)


def score(result: Result, number: int) -> float:
    """Score of the head of that number."""
    return float(result["score"].values[number])


def drop(result: Result, number: int) -> Estimate:
    """F(C\\K) - F(C\\(K+v)) of the head of that number, with its interval."""
    return measured(result, "removal.").difference({"stage": 0, "head": number}, {"stage": 1, "head": number})


def ratio(result: Result, number: int) -> Estimate | None:
    """F(C\\K) / F(C\\(K+v)) of the head of that number; None where the second may be next to nothing."""
    values = measured(result, "removal.")
    found = values.ratio({"stage": 0, "head": number}, {"stage": 1, "head": number})
    return found if values.estimate(stage=1, head=number).low > LEAST_DENOMINATOR else None


def notes(result: Result) -> Sequence[str]:
    """What is lost with a head, and which procedure was followed."""
    published = Quirk.RATIO_SCORE in result.facts["quirks"]
    return (
        "K: the heads of v's group whose removal most raises v's importance; lost: F(C\\K) - F(C\\(K+v))",
        f"ratio: F(C\\K) / F(C\\(K+v)), empty where the second may be {LEAST_DENOMINATOR} or less",
        f"score, which decides: {'ratio - 1' if published else 'lost, as a share of the larger of both F'}",
        "95 % intervals over contexts, paired; a head that two groups have at one role goes from both",
        *published_notes(result.facts["quirks"]),
    )


def figure(result: Result) -> Figure:
    """Drop of F when the head goes after K, with intervals, a panel a group; grey heads are pruned."""
    groups: dict[str, list[int]] = {}
    for number, head in enumerate(result.facts["heads"]):
        groups.setdefault(head["group"], []).append(number)
    most = max([len(numbers) for numbers in groups.values()], default=1)
    shape = {"width": 2.6 * max(1, len(groups)), "height": 1.2 + 0.22 * most}
    drawn, axes = new_figure(1, max(1, len(groups)), **shape)
    drops = [drop(result, number) for number in range(len(result.facts["heads"]))]
    ends = [0.0, *(end for one in drops for end in (one.value, one.low, one.high) if math.isfinite(end))]
    margin = 0.05 * max(max(ends) - min(ends), 1e-3)
    for axis, (name, numbers) in zip(axes[0], groups.items(), strict=False):
        bars = [drops[number] for number in numbers]
        colors = [ACCENT if score(result, number) >= result.facts["threshold"] else BASE for number in numbers]
        places = range(len(numbers))
        axis.barh(places, [bar.value for bar in bars], xerr=error_bars(bars), color=colors, capsize=2)
        axis.set_yticks(places, [result.facts["heads"][number]["label"] for number in numbers], fontsize=7)
        axis.invert_yaxis()
        axis.axvline(0, color="black", linewidth=0.5)
        axis.set_xlim(min(ends) - margin, max(ends) + margin)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(f"drop of {result.facts['metric']}", fontsize=8)
    return drawn
