"""How much each head of the circuit matters, and what is left without those that do not."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.drawing import LEFT_OUT, TESTED, Drawing, Line, Mark, Row, Rows, sizes_of, spoken
from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured

_BARS = "Bars: 95 % intervals over contexts."
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


def headline(result: Result) -> str:
    """How many heads stay, and F before and after."""
    facts, values = result.facts, measured(result)
    before, after = (float(values.means(circuit=name)) for name in ("circuit", "pruned"))
    return f"{facts['pruned_heads']} of {facts['circuit_heads']} heads stay, F {before:.3f} -> {after:.3f}"


def notes(result: Result) -> Sequence[str]:
    """What is lost with a head, and which procedure was followed."""
    published = Quirk.RATIO_SCORE in result.facts["quirks"]
    chosen = "K and score are of the contexts that circuits are searched on; F and lost are not"
    return (
        "K: the heads of v's group whose removal most raises v's importance; lost: F(C\\K) - F(C\\(K+v))",
        f"ratio: F(C\\K) / F(C\\(K+v)), empty where the second may be {LEAST_DENOMINATOR} or less",
        f"score, which decides: {'ratio - 1' if published else 'lost, as a share of the larger of both F'}",
        *([chosen] if result.facts["chosen_apart"] else []),
        "95 % intervals over contexts, paired; a head that two groups have at one role goes from both",
        *published_notes(result.facts["quirks"]),
    )


def claim(result: Result) -> str:
    """How many heads stay, and what the pruned circuit does."""
    facts, values = result.facts, measured(result)
    before, after = (values.estimate(circuit=name) for name in ("circuit", "pruned"))
    change = values.difference({"circuit": "pruned"}, {"circuit": "circuit"})
    return (
        f"Of the circuit's {facts['circuit_heads']} heads in {facts['model']} {facts['pruned_heads']} stay:"
        f" {facts['metric']} {after} without the others, {before} with them, a change of {change}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A head is judged after a set K is removed: by itself it may do nothing.",
        "A head that is pruned may do something that the threshold or these prompts do not show.",
    )


def drawing(result: Result) -> Drawing:
    """Drop of F when the head goes after K, with intervals, a panel a group; heads that are pruned in grey."""
    groups: dict[str, list[int]] = {}
    for number, head in enumerate(result.facts["heads"]):
        groups.setdefault(head["group"], []).append(number)
    panels = tuple(
        Rows(
            spoken(name),
            f"{result.facts['metric']} lost without the head",
            "head (layer.head)",
            tuple(_head_row(result, number) for number in numbers),
            (Line(0, "up"),),
        )
        for name, numbers in groups.items()
    )
    notes = ("Pruned: what the head does, found on other prompts, is below the threshold.", _BARS)
    title = f"Minimality in {result.facts['model']}: what is lost with each head"
    return Drawing(title, panels, None, notes, sizes_of(measured(result).prompts))


def _head_row(result: Result, number: int) -> Row:
    stays = score(result, number) >= result.facts["threshold"]
    hue, label = (TESTED, "stays") if stays else (LEFT_OUT, "pruned")
    return Row(result.facts["heads"][number]["label"], (Mark(drop(result, number), hue, label),))
