"""Which group carries what, in every model."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.activation_patching import ActivationPatchingResult
from entitrack.report.figures.canvas import new_figure, plot


@plot.register
def _(result: ActivationPatchingResult) -> Figure:
    """Accuracy, a panel a model: groups against desiderata, with half the interval's width in every cell."""
    groups, rules = result.groups, result.desiderata
    width = 1.6 + max(1.2, 0.75 * len(rules)) * len(result.models)
    figure, axes = new_figure(1, len(result.models), width=width, height=1.4 + 0.45 * len(groups))
    for number, (axis, model) in enumerate(zip(axes[0], result.models, strict=True)):
        found = [[result.accuracy(model, group, rule) for rule in rules] for group in groups]
        image = axis.imshow(
            [[cell.value for cell in row] for row in found], cmap="Blues", vmin=0, vmax=1, aspect="auto"
        )
        for row, cells in enumerate(found):
            for column, cell in enumerate(cells):
                text = f"{cell.value:.2f}\n±{(cell.high - cell.low) / 2:.2f}"
                color = "white" if cell.value > 0.6 else "black"
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        axis.set_title(model, fontsize=9)
        axis.set_xticks(range(len(rules)), [rule.replace("_", " ") for rule in rules], rotation=45, ha="right")
        axis.set_yticks(range(len(groups)), groups if number == 0 else [""] * len(groups))
    figure.colorbar(image, ax=axes, shrink=0.8, label="targets answered")
    return figure
