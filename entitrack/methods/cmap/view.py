"""What the donor carries into the base, as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure

OUTPUTS = {"z": "z of the circuit's heads", **WITHOUT_HEADS}
"""Component -> what of the circuit's heads the output form transplants."""

STAYS = {
    "output": "MLPs, embeddings, other heads and other positions are the base's own",
    "input": "every other z outside the last token is held at the base's own; MLPs and embeddings are the base's",
}


CONTROLS = (
    "of the gap: what a row gains, of what the donor has over the recipient; empty where that may be nothing",
    "random heads: as many others at the same roles, of any layer, or of the layers that the group's heads are in",
    "p: share of random sets, counting the group, that move it as far towards the donor; gain: over their mean",
    "all heads at last, all heads at the roles: the most that heads there can do",
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
    return (main, _control_table(result)) if "control.own" in result.measurements else (main,)


def _control_table(result: Result) -> Table:
    """Every transplant of z beside random sets of heads of its shape."""
    own, drawn = result["control.own"], result["control.drawn"]
    rows: list[tuple[Cell, ...]] = []
    for name in own.names("transplant"):
        kinds = [kind for kind in drawn.names("kind") if bool(drawn.number(transplant=name, kind=kind))]
        accuracy = float(own.means(transplant=name))
        rows += [(name, kind, accuracy, *_against(result, name, kind)) for kind in kinds]
        rows += [] if kinds else [(name, "none: too few others", accuracy, *[None] * 5)]
    columns = ("transplant", "random heads", "accuracy", "median", "5 %", "95 %", "p", "gain [95 %]")
    title = f"Beside random heads, {result['control.correct'].size('draw')} sets of each kind, n {own.size('prompt')}"
    return Table(title, columns, tuple(rows))


def _against(result: Result, name: str, kind: str) -> tuple[Cell, ...]:
    """Median and quantiles of the random sets, the share that does as well, and what is gained over their mean."""
    means, own = control_means(result, name, kind), result["control.own"].means(transplant=name)
    is_worse = bool(result["correct"].means(model="donor") < result["correct"].means(model="base"))
    quantiles = [float(means.quantile(at)) for at in (0.5, 0.05, 0.95)]
    as_good = means <= own if is_worse else means >= own
    p = (1 + int(as_good.sum())) / (1 + len(means))
    return (*quantiles, p, result["control.gain"].estimate(transplant=name, kind=kind))


def control_means(result: Result, name: str, kind: str) -> Tensor:
    """Accuracy with every random set of a kind beside a transplant."""
    return result["control.correct"].means(transplant=name, kind=kind)


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
    return (label, heads, correct.estimate(model=key), gain, share_of_gap(result, key), correct.size("prompt"))


def share_of_gap(result: Result, key: str) -> float | None:
    """What a row gains, of what the donor has over the recipient; None where its interval holds 0 or there is none.

    A donor that is worse has a gap too: it says how much of what it lacks a row loses.
    """
    gap = result["correct"].difference({"model": "donor"}, {"model": "base"})
    if key in ("base", "donor") or not (gap.low > 0 or gap.high < 0):
        return None
    return result["correct"].difference({"model": key}, {"model": "base"}).value / gap.value


def notes(result: Result) -> Sequence[str]:
    """What stays, and how intervals are made; a group without heads is named."""
    facts = result.facts
    empty = [f"group {name} has no heads: its row is the base" for name, count in facts["heads"].items() if not count]
    masks = [f"heads narrowed by {facts['masks']}"] if facts["masks"] else []
    intervals = "95 % intervals over contexts, paired for differences"
    controls = CONTROLS if "control.own" in result.measurements else ()
    return (STAYS[facts["form"]], intervals, *controls, *masks, *empty, *published_notes(facts["quirks"]))


def figure(result: Result) -> Figure:
    """Accuracy of base, donor and each transplant, with intervals."""
    facts, correct = result.facts, result["correct"]
    names = ["base", "donor", *facts["heads"]]
    drawn, axes = new_figure(height=1.2 + 0.29 * len(names))
    axis = axes[0, 0]
    estimates = [correct.estimate(model=name) for name in names]
    colors = [BASE, DONOR] + [ACCENT] * len(facts["heads"])
    values = [entry.value for entry in estimates]
    axis.barh(range(len(names)), values, xerr=error_bars(estimates), color=colors, capsize=3)
    into = recipient(facts)
    labels = [f"{facts['base']} ({into})", f"{facts['donor']} (donor)"]
    labels += [f"{into} + {name}" for name in facts["heads"]]
    axis.set_yticks(range(len(names)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy, 95 % interval")
    axis.set_title(f"CMAP: {facts['donor']} into {facts['base']}")
    for index in (0, 1):
        axis.axvline(values[index], color=colors[index], linewidth=1, linestyle="--", zorder=0)
    return drawn
