"""Which heads carry what, and how the masks were learnt."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from entitrack.methods.dcm_result import DcmResult
from entitrack.report.figures.canvas import COLORS, blank, plot


@plot.register
def _(result: DcmResult) -> Figure:
    """Test accuracy of the chosen masks, with heads taken of heads there; and, a panel a group, how they came."""
    groups, rules = [group.name for group in result.groups], result.desiderata
    trained = list(dict.fromkeys(mask.group for mask in result.trained))
    figure = blank(width=1.8 + 0.9 * len(rules) + 2.2 * len(trained), height=1.8 + 0.5 * max(3, len(groups)))
    widths = (1.8 + 0.9 * len(rules), 2.2 * max(1, len(trained)))
    heat_map, curves = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    _heat_map(heat_map.subplots(), result, groups, rules)
    if trained:
        panels = curves.subplots(1, len(trained), sharey=True, squeeze=False)[0]
        _learning_curves(curves, dict(zip(trained, panels, strict=True)), result)
    return figure


def _learning_curves(curves: Any, panels: dict[str, Any], result: DcmResult) -> None:
    """Validation accuracy by step, a colour a desideratum; other weights and draws than the chosen ones are faint."""
    colors = {rule: COLORS[number % len(COLORS)] for number, rule in enumerate(result.desiderata)}
    for mask in result.trained:
        chosen = mask is result.chosen(mask.group, mask.desideratum)
        steps, values = (mask.history[name].numpy() for name in ("validated_at", "validated"))
        style = {"color": colors[mask.desideratum], "alpha": 1 if chosen else 0.3}
        panels[mask.group].plot(steps, values, marker=".", linewidth=1, **style)
    for name, axis in panels.items():
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
    first = next(iter(panels.values()))
    first.set_ylim(-0.02, 1.02)
    first.set_ylabel("validation targets answered", fontsize=8)
    handles = [first.plot([], [], color=color)[0] for color in colors.values()]
    curves.legend(handles, colors, loc="outside lower center", ncols=max(1, len(panels)), fontsize=7)


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
