"""What the donor carries into the base, as a table and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

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


def tables(result: Result) -> Sequence[Table]:
    """Accuracy of the base, of the donor, and of the base with each transplant."""
    facts = result.facts
    rows = [_row(result, f"{facts['base']} (base)", "base", None)]
    rows.append(_row(result, f"{facts['donor']} (donor)", "donor", None))
    rows += [_row(result, f"base with donor's {name}", name, heads) for name, heads in facts["heads"].items()]
    columns = ("model", "heads", "accuracy [95 %]", "minus base [95 %]", "n")
    title = f"CMAP: {facts['donor']} -> {facts['base']}, {what_moves(facts)}"
    return (Table(title, columns, tuple(rows)),)


def what_moves(facts: Mapping[str, Any]) -> str:
    """What is transplanted, in words."""
    if facts["form"] == "input":
        return "q at the heads' roles, k and v before them"
    return f"{', or '.join(OUTPUTS[component] for component in facts['components'])} at their roles"


def _row(result: Result, label: str, key: str, heads: int | None) -> tuple[Cell, ...]:
    correct = result["correct"]
    gain = None if key == "base" else correct.difference({"model": key}, {"model": "base"})
    return (label, heads, correct.estimate(model=key), gain, correct.size("prompt"))


def notes(result: Result) -> Sequence[str]:
    """What stays, and how intervals are made; a group without heads is named."""
    facts = result.facts
    empty = [f"group {name} has no heads: its row is the base" for name, count in facts["heads"].items() if not count]
    masks = [f"heads narrowed by {facts['masks']}"] if facts["masks"] else []
    intervals = "95 % intervals: bootstrap over contexts, paired for differences"
    return (STAYS[facts["form"]], intervals, *masks, *empty, *published_notes(facts["quirks"]))


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
    labels = [f"{facts['base']} (base)", f"{facts['donor']} (donor)", *(f"base + {name}" for name in facts["heads"])]
    axis.set_yticks(range(len(names)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy, 95 % interval")
    axis.set_title(f"CMAP: {facts['donor']} into {facts['base']}")
    for index in (0, 1):
        axis.axvline(values[index], color=colors[index], linewidth=1, linestyle="--", zorder=0)
    return drawn
