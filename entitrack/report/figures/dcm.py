"""Which heads carry what, and how the masks were learnt."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from entitrack.methods.dcm_result import DcmResult
from entitrack.report.figures.canvas import new_figure, plot


@plot.register
def _(result: DcmResult) -> Figure:
    """Left: test accuracy of the chosen masks, with heads kept of heads there; right: validation accuracy by step."""
    groups, rules = [group.name for group in result.groups], result.desiderata
    figure, axes = new_figure(1, 2, width=5 + 1.1 * len(rules), height=1.8 + 0.6 * len(groups))
    _heat_map(axes[0, 0], result, groups, rules)
    axis = axes[0, 1]
    colors = {rule: f"C{number % 10}" for number, rule in enumerate(rules)}
    styles = dict(zip(groups, ("-", "--", "-.", ":") * len(groups), strict=False))
    for mask in result.trained:
        label = f"{mask.group}, {mask.desideratum}" if mask is result.chosen(mask.group, mask.desideratum) else None
        curve = (mask.history["validated_at"].numpy(), mask.history["validated"].numpy())
        axis.plot(*curve, styles[mask.group], color=colors[mask.desideratum], label=label, linewidth=1)
    axis.set_xlabel("step")
    axis.set_ylabel("validation targets answered")
    axis.set_ylim(-0.02, 1.02)
    if len(groups) * len(rules) <= 12:
        axis.legend(fontsize=5, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.2))
    return figure


def _heat_map(axis: Any, result: DcmResult, groups: list[str], rules: tuple[str, ...]) -> None:
    """Groups against desiderata; cells of groups without heads stay empty."""
    found = [[result.chosen(group, rule) for rule in rules] for group in groups]
    estimates = [[result.accuracy(mask) if mask else None for mask in row] for row in found]
    values = [[cell.value if cell else float("nan") for cell in row] for row in estimates]
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, masks in enumerate(found):
        for column, mask in enumerate(masks):
            cell = estimates[row][column]
            if mask is None or cell is None:
                continue
            text = f"{cell.value:.2f} ±{(cell.high - cell.low) / 2:.2f}\n{len(mask.heads)} of {mask.size}"
            color = "white" if cell.value > 0.6 else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    axis.set_title(f"DCM on {result.model}: test targets answered", fontsize=9)
    axis.set_xticks(range(len(rules)), [rule.replace("_", " ") for rule in rules], rotation=30, ha="right")
    axis.set_yticks(range(len(groups)), groups)
