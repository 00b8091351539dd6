"""Which group carries what, in every model: the published table, and a figure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import new_figure


def tables(result: Result) -> Sequence[Table]:
    """The published table: model x group x desideratum; then the heads that were patched."""
    correct = result["correct"]
    rules, count = correct.names("desideratum"), correct.size("repeat") * correct.size("prompt")
    rows: list[tuple[Cell, ...]] = [
        (f"{model}/{group}", *(_accuracy(result, model, group, rule) for rule in rules), count)
        for model in correct.names("model")
        for group in correct.names("group")
    ]
    heads: list[tuple[Cell, ...]] = [
        (group, *(by_desideratum[rule] for rule in rules)) for group, by_desideratum in result.facts["heads"].items()
    ]
    component = result.facts["component"]
    title = f"Activation patching of {component}: targets answered"
    of_heads = "Heads patched" if component == "z" else "Heads whose layers are patched"
    return (
        Table(title, ("model/group", *rules, "n"), tuple(rows)),
        Table(of_heads, ("group", *rules), tuple(heads)),
    )


def _accuracy(result: Result, model: str, group: str, desideratum: str) -> Estimate:
    """Share of targets answered, over prompts and repeats; contexts are the independent units."""
    return result["correct"].pooled("repeat").estimate(model=model, group=group, desideratum=desideratum)


def notes(result: Result) -> Sequence[str]:
    """What moves, and how to read the rows."""
    masks = result.facts["masks"]
    heads = f"the heads of the masks in {masks}" if masks else "all heads of each group"
    component = result.facts["component"]
    what = f"z of {heads}" if component == "z" else f"of {heads}, {WITHOUT_HEADS[component]}"
    return (
        f"moved: {what}, at the group's role, from counterfactual to clean prompt",
        "nothing: how often the unpatched model answers the target already",
        f"{result['correct'].size('repeat')} draws of the counterfactuals; 95 % intervals over contexts",
        *published_notes(result.facts["quirks"]),
    )


def figure(result: Result) -> Figure:
    """Accuracy, a panel a model: groups against desiderata, with half the interval's width in every cell."""
    models, groups, rules = (result["correct"].names(axis) for axis in ("model", "group", "desideratum"))
    width = 1.6 + max(1.2, 0.75 * len(rules)) * len(models)
    drawn, axes = new_figure(1, len(models), width=width, height=1.4 + 0.45 * len(groups))
    for number, (axis, model) in enumerate(zip(axes[0], models, strict=True)):
        accuracies = [[_accuracy(result, model, group, rule) for rule in rules] for group in groups]
        values = [[cell.value for cell in row] for row in accuracies]
        image = axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, cells in enumerate(accuracies):
            for column, cell in enumerate(cells):
                text = f"{cell.value:.2f}\n{cell.margin}".rstrip()
                color = "white" if cell.value > 0.6 else "black"
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        axis.set_title(model, fontsize=9)
        axis.set_xticks(range(len(rules)), [rule.replace("_", " ") for rule in rules], rotation=45, ha="right")
        axis.set_yticks(range(len(groups)), groups if number == 0 else [""] * len(groups))
    drawn.colorbar(image, ax=axes, shrink=0.8, label="targets answered")
    return drawn
