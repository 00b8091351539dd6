"""What the donor carries into the base, as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.drawing import BASE, TESTED, Drawing, Line, Mark, Row, Rows, member_hues, sizes_of, spoken
from entitrack.core.measurement import Measurement
from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.controls import rank_p
from entitrack.core.table import Cell, Table
from entitrack.methods.cmap.settings import ALL_LAST, ALL_ROLES, NULL

OUTPUTS = {"z": "z of the circuit's heads", **WITHOUT_HEADS}
"""Component -> what of the circuit's heads the output form transplants."""

STAYS = {
    "output": "MLPs, embeddings, other heads and other positions are the base's own",
    "input": "every other z outside the last token is held at the base's own; MLPs and embeddings are the base's",
}


_DRAWN = "Ticks: one random set of as many heads; the wide bar is their 5 to 95 %, the tall tick their median."
CONTROLS = (
    "of the gap: what a row gains, of what the donor has over the recipient; empty where that may be nothing",
    "random heads: as many others at the same roles, of any layer, or of the layers that the group's heads are in",
    "p: share of random sets, counting the group, that move it as far towards the donor; gain: over their mean",
)
BRACKETS = (
    "all heads at last, all heads at the roles: the most that heads there can do; everything: the donor's stream behind"
    " the last layer, so that the recipient only unembeds it",
)


def tables(result: Result) -> Sequence[Table]:
    """Accuracy of the base, of the donor, and of the base with each transplant."""
    facts = result.facts
    into = recipient(facts)
    rows = [_row(result, f"{facts['base']} ({into})", "base", None)]
    rows.append(_row(result, f"{facts['donor']} (donor)", "donor", None))
    rows += [_row(result, f"{into} with donor's {name}", name, heads) for name, heads in facts["heads"].items()]
    columns = ("model", "heads", "accuracy [95 %]", f"minus {into} [95 %]", "of the gap", "n")
    title = f"CMAP: {facts['donor']} -> {facts['base']}, {what_moves(facts)}"
    main = Table(title, columns, tuple(rows))
    beside = (_control_table(result),) if "control.own" in result.measurements else ()
    return (main, *beside, *((_bracket_table(result),) if "bracket" in result.measurements else ()))


def _bracket_table(result: Result) -> Table:
    """What moves nothing, and the most that can be moved."""
    right, facts = result["bracket"], result.facts
    into, rows = recipient(facts), []
    for name in right.names("model")[2:]:
        gain = right.difference({"model": name}, {"model": "base"})
        label = f"{into} into itself (null)" if name == NULL else name
        rows.append((label, right.estimate(model=name), gain, share_of_gap(right, name)))
    columns = ("model", "accuracy [95 %]", f"minus {into} [95 %]", "of the gap")
    return Table(f"Null control and brackets, n {right.size('prompt')}", columns, tuple(rows))


def _control_table(result: Result) -> Table:
    """Every transplant of z beside random sets of heads of its shape."""
    own, drawn = result["control.own"], result["control.drawn"]
    rows: list[tuple[Cell, ...]] = []
    for name in own.names("transplant"):
        if name in (ALL_LAST, ALL_ROLES):
            continue  # a bracket, which has a table of its own
        kinds = [kind for kind in drawn.names("kind") if bool(drawn.number(transplant=name, kind=kind))]
        accuracy = float(own.means(transplant=name))
        rows += [(name, kind, accuracy, *_against(result, name, kind)) for kind in kinds]
        rows += [] if kinds else [(name, "none: too few others", accuracy, *[None] * 6)]
    most, n = result["control.correct"].size("draw"), own.size("prompt")
    columns = ("transplant", "random heads", "accuracy", "median", "5 %", "95 %", "sets", "p", "gain [95 %]")
    title = f"Beside random heads, up to {most} different sets of each kind, n {n}"
    return Table(title, columns, tuple(rows))


def _against(result: Result, name: str, kind: str) -> tuple[Cell, ...]:
    """Median and quantiles of the random sets, the share that does as well, and what is gained over their mean."""
    means, own = control_means(result, name, kind), float(result["control.own"].means(transplant=name))
    is_worse = bool(result["correct"].means(model="donor") < result["correct"].means(model="base"))
    quantiles = [float(means.quantile(at)) for at in (0.5, 0.05, 0.95)]
    p = rank_p(own, means.numpy(), -1 if is_worse else 1)
    return (*quantiles, len(means), p, result["control.gain"].estimate(transplant=name, kind=kind))


def control_means(result: Result, name: str, kind: str) -> Tensor:
    """Accuracy with every random set of a kind beside a transplant."""
    count = int(result["control.drawn"].number(transplant=name, kind=kind))
    return result["control.correct"].means(transplant=name, kind=kind)[:count]


def recipient(facts: Mapping[str, Any]) -> str:
    """What the model is called that activations are put into."""
    return "base" if facts["base"] == facts["family_base"] else "recipient"


def what_moves(facts: Mapping[str, Any]) -> str:
    """What is transplanted, in words."""
    if facts["form"] == "input":
        return "q at the heads' roles, k and v before them"
    return f"{', or '.join(OUTPUTS[component] for component in facts['components'])} at their roles"


def _row(result: Result, label: str, key: str, heads: int | None) -> tuple[Cell, ...]:
    correct = result["correct"]
    gain = None if key == "base" else correct.difference({"model": key}, {"model": "base"})
    return (label, heads, correct.estimate(model=key), gain, share_of_gap(correct, key), correct.size("prompt"))


def share_of_gap(correct: Measurement, key: str) -> float | None:
    """What a row gains, of what the donor has over the recipient; None where its interval holds 0 or there is none.

    A donor that is worse has a gap too: it says how much of what it lacks a row loses.
    """
    gap = correct.difference({"model": "donor"}, {"model": "base"})
    if key in ("base", "donor") or not (gap.low > 0 or gap.high < 0):
        return None
    return correct.difference({"model": key}, {"model": "base"}).value / gap.value


def headline(result: Result) -> str:
    """What all groups together bring the base."""
    name = next(iter(result.facts["heads"]), None)
    if name is None:
        return "no group was moved"
    correct = result["correct"]
    gain, share = correct.difference({"model": name}, {"model": "base"}), share_of_gap(correct, name)
    return f"{result.facts['donor']}'s {name} gains {gain}" + ("" if share is None else f", {share:.2f} of the gap")


def notes(result: Result) -> Sequence[str]:
    """What stays, and how intervals are made; a group without heads is named."""
    facts = result.facts
    empty = [f"group {name} has no heads: its row is the base" for name, count in facts["heads"].items() if not count]
    masks = [f"heads narrowed by {facts['masks']}"] if facts["masks"] else []
    intervals = "95 % intervals over contexts, paired for differences"
    controls = CONTROLS if "control.own" in result.measurements else ()
    bounds = (_null_note(result), *BRACKETS) if "bracket" in result.measurements else ()
    return (STAYS[facts["form"]], intervals, *controls, *bounds, *masks, *empty, *published_notes(facts["quirks"]))


def _null_note(result: Result) -> str:
    """What the null control is, and what it changed."""
    changed = result["bracket.changed"].values
    told = f"{int(changed.sum())} of {len(changed)} answers are another"
    return f"into itself: what the full circuit moves is the recipient's own, so that nothing may change; {told}"


def claim(result: Result) -> str:
    """What the whole circuit transplants, of which gap, beside random heads."""
    facts, correct = result.facts, result["correct"]
    name = next(iter(facts["heads"]))
    base, donor, moved = (correct.estimate(model=key) for key in ("base", "donor", name))
    share = share_of_gap(correct, name)
    of_gap = f", {share:.2f} of the gap" if share is not None else ""
    beside = ""
    if "control.own" in result.measurements and name in result["control.own"].names("transplant"):
        drawn = result["control.drawn"]
        kinds = [kind for kind in drawn.names("kind") if bool(drawn.number(transplant=name, kind=kind))]
        if kinds:
            median, _, _, sets, p, _ = _against(result, name, kinds[0])
            own = float(result["control.own"].means(transplant=name))
            beside = (
                f" On {result['control.own'].size('prompt')} of the prompts it has {own:.3f}, and {sets} random sets"
            )
            beside += f" of as many heads a median of {median:.3f} (p {p:.3f})."
        else:
            beside = " There are too few other heads for a control, so nothing says that it is these heads."
    return (
        f"With {facts['donor']}'s {name} ({facts['heads'][name]} heads) in it, {facts['base']} answers {moved} rightly;"
        f" it has {base} by itself, {facts['donor']} {donor}{of_gap}.{beside}"
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A transplant shows what suffices in the recipient, not what the donor itself relies on.",
        "A group that does no better than random heads (p) is not shown to carry the difference.",
        "Shares of the gap of several groups do not add up: groups act through each other.",
    )


def drawing(result: Result) -> Drawing:
    """Accuracy of base, donor and each transplant, with intervals; and each transplant beside random heads."""
    facts, correct = result.facts, result["correct"]
    into, hues = recipient(facts), member_hues(result, (facts["base"], facts["donor"]))
    of_donor, moved = hues[facts["donor"]], f"{into} with the donor's heads"
    rows = [
        Row(f"{facts['base']} ({into})", (Mark(correct.estimate(model="base"), BASE, facts["base"]),)),
        Row(f"{facts['donor']} (donor)", (Mark(correct.estimate(model="donor"), of_donor, facts["donor"]),)),
    ]
    for name, heads in facts["heads"].items():
        label = f"+ {spoken(name)} ({heads})"
        rows.append(Row(label, (Mark(correct.estimate(model=name), TESTED, moved),), text="" if heads else "empty"))
    lines = tuple(Line(rows[index].marks[0].value.value, "up", hue) for index, hue in ((0, BASE), (1, of_donor)))  # type: ignore[union-attr]
    main = Rows(f"n {correct.size('prompt')}", "accuracy", "", tuple(rows), lines, (0, 1))
    beside = (_control_panel(result, moved),) if "control.own" in result.measurements else ()
    title = f"CMAP: {what_moves(facts)}, {facts['donor']} into {facts['base']}"
    notes = ("In brackets, the number of heads. Bars: 95 % intervals over contexts.", *([_DRAWN] if beside else []))
    return Drawing(title, (main, *beside), None, notes, sizes_of(correct.prompts))


def _control_panel(result: Result, label: str) -> Rows:
    """Every transplant of z, and under it the random sets of each kind."""
    own, drawn, rows = result["control.own"], result["control.drawn"], []
    for name in own.names("transplant"):
        if name in (ALL_LAST, ALL_ROLES):
            continue
        rows.append(Row(spoken(name), (Mark(float(own.means(transplant=name)), TESTED, label),)))
        kinds = [kind for kind in drawn.names("kind") if bool(drawn.number(transplant=name, kind=kind))]
        rows += [Row(f"random, {kind}", (), tuple(control_means(result, name, kind).tolist())) for kind in kinds]
        if not kinds:
            rows.append(Row("random: too few others", ()))
    return Rows(f"beside random heads, n {own.size('prompt')}", "accuracy", "", tuple(rows), limits=(0, 1))
