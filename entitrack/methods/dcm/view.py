"""Which heads of each group carry what, and how the masks were learnt: tables, words and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.discoveries import q_values
from entitrack.core.statistics.estimates import FEW_CONTEXTS, Estimate
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import COLORS, blank

Mask = Mapping[str, str | int]
"""Group and desideratum by name, weight and draw by number: where a mask stands in the measurements."""

_BRACKETED = ("nothing", "mask", "whole group")
_RATE = 0.05
"""Of false discoveries among all that groups are said to carry."""


def tables(result: Result) -> Sequence[Table]:
    """Accuracy of the chosen masks between its brackets, their heads, and all masks where there are more."""
    chosen, every = result.facts["chosen"], _every_mask(result)
    columns = ("group/desideratum", *(f"{patched} [95 %]" for patched in _BRACKETED), "heads", "n")
    rows = tuple((_unit(mask), *_cells(result, mask)) for mask in chosen)
    heads: list[tuple[Cell, ...]] = [
        (_unit(mask), _gain(result, mask), ", ".join(_patched_heads(result, mask)) or "none") for mask in chosen
    ]
    laid = [
        Table(f"DCM on {result.facts['model']}: test targets answered", columns, rows),
        Table("The masks", ("group/desideratum", "mask minus nothing [95 %]", "heads"), tuple(heads)),
    ]
    if len(every) > len(chosen):
        all_rows = tuple((_full_name(result, mask), *_cells(result, mask)) for mask in every)
        laid.append(Table("All masks", ("group/desideratum/sparsity/draw", *columns[1:]), all_rows))
    return laid


def _every_mask(result: Result) -> list[Mask]:
    """All masks: by group and desideratum, then draw, then weight."""
    if not result.measurements:
        return []
    best = result["best_validation"]
    return [
        {"group": group, "desideratum": rule, "sparsity": sparsity, "draw": draw}
        for group in best.names("group")
        for rule in best.names("desideratum")
        for draw in range(best.size("draw"))
        for sparsity in range(best.size("sparsity"))
    ]


def _unit(mask: Mask) -> str:
    return f"{mask['group']}/{mask['desideratum']}"


def _full_name(result: Result, mask: Mask) -> str:
    weight = result["best_validation"].names("sparsity")[int(mask["sparsity"])]
    return f"{_unit(mask)}/{float(weight):g}/{mask['draw']}"


def _cells(result: Result, mask: Mask) -> tuple[Cell, ...]:
    """Accuracy with nothing, the mask's heads and the whole group patched; heads; number of prompts."""
    accuracies = [_accuracy(result, mask, patched) for patched in _BRACKETED]
    return (*accuracies, _heads_of_heads(result, mask), result["correct"].size("prompt"))


def _accuracy(result: Result, mask: Mask, patched: str = "mask") -> Estimate:
    """Share of targets answered on the test prompts."""
    return result["correct"].estimate(**mask, patched=patched)


def _gain(result: Result, mask: Mask) -> Estimate:
    """What patching the mask's heads adds to the unpatched model's accuracy, paired."""
    return result["correct"].difference({**mask, "patched": "mask"}, {**mask, "patched": "nothing"})


def _patched_heads(result: Result, mask: Mask) -> list[str]:
    """The heads that a mask takes from the counterfactual, the group's most important first."""
    patched = result["patched_heads"].at(**mask)
    names = [f"{layer}.{head}" for layer, head in result.facts["groups"][mask["group"]]]
    return [name for name in names if bool(patched.at(head=name).values)]


def _heads_of_heads(result: Result, mask: Mask) -> str:
    return f"{len(_patched_heads(result, mask))} of {len(result.facts['groups'][mask['group']])}"


def notes(result: Result) -> Sequence[str]:
    """How to read the table, and in words what each group carries."""
    q_by_unit = _q_by_unit(result)
    return (
        "mask: its heads' z, at the role, from counterfactual to clean prompt; brackets: no head, every head",
        f"half of the {_counted(result)} train, a quarter chooses the mask, a quarter tests it;"
        " 95 % intervals over contexts",
        f"carries: mask minus nothing is above 0, at a false discovery rate of {_RATE:.0%} over the table"
        " (Benjamini-Hochberg)",
        *published_notes(result.facts["quirks"]),
        *(_in_words(result, group, heads, q_by_unit) for group, heads in result.facts["groups"].items()),
    )


def _counted(result: Result) -> str:
    """What training, validation and test do not share."""
    return "prompts" if Quirk.SPLIT_BY_PROMPT in result.facts["quirks"] else "contexts"


def _in_words(result: Result, group: str, heads: Sequence[Sequence[int]], q_by_unit: Mapping[str, float]) -> str:
    """What a group carries: every desideratum whose gain over the unpatched model is a discovery."""
    if not heads:
        return f"{group} has no heads: nothing to train"
    masks = [mask for mask in result.facts["chosen"] if mask["group"] == group]
    if any(math.isnan(q_by_unit[_unit(mask)]) for mask in masks):
        return f"what {group} carries is not said: {FEW_CONTEXTS}"
    gains = {mask["desideratum"]: _gain(result, mask).value for mask in masks if q_by_unit[_unit(mask)] <= _RATE}
    carried = sorted((rule for rule in gains if gains[rule] > 0), key=lambda rule: -gains[rule])
    listed = ", ".join(f"{rule} (+{gains[rule]:.2f})" for rule in carried)
    return f"{group} carries {listed or 'none of these'}"


def _q_by_unit(result: Result) -> dict[str, float]:
    """Group and desideratum -> q-value of what its mask adds, over all that the table has; NaN without intervals."""
    chosen, patched = result.facts["chosen"], ({"patched": "mask"}, {"patched": "nothing"})
    p_values = [result["correct"].p_value(*({**mask, **where} for where in patched)) for mask in chosen]
    return dict(zip(map(_unit, chosen), q_values(np.array(p_values)).tolist(), strict=True))


def figure(result: Result) -> Figure:
    """Test accuracy of the chosen masks, with heads taken of heads there; and, a panel a group, how they came."""
    groups, rules = list(result.facts["groups"]), result.facts["desiderata"]
    trained = [group for group in groups if result.facts["groups"][group]]
    widths = (1.8 + 0.9 * len(rules), 2.2 * max(1, len(trained)))
    drawn = blank(width=widths[0] + 2.2 * len(trained), height=1.8 + 0.5 * max(3, len(groups)))
    heat_map, curves = drawn.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    _draw_heat_map(heat_map.subplots(), result, groups, rules)
    if trained:
        panels = curves.subplots(1, len(trained), sharey=True, squeeze=False)[0]
        _draw_learning_curves(curves, dict(zip(trained, panels, strict=True)), result)
    return drawn


def _draw_learning_curves(curves: Any, panels: dict[str, Any], result: Result) -> None:
    """Validation accuracy by step, a colour a desideratum; other weights and draws than the chosen ones are faint."""
    validation, chosen = result["validation"], result.facts["chosen"]
    colors = {rule: COLORS[number % len(COLORS)] for number, rule in enumerate(result.facts["desiderata"])}
    steps = [int(step) for step in validation.names("step")]
    for mask in _every_mask(result):
        style = {"color": colors[str(mask["desideratum"])], "alpha": 1 if mask in chosen else 0.3}
        panels[str(mask["group"])].plot(steps, validation.at(**mask).values.numpy(), marker=".", linewidth=1, **style)
    for name, axis in panels.items():
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
    first = next(iter(panels.values()))
    first.set_ylim(-0.02, 1.02)
    first.set_ylabel("validation targets answered", fontsize=8)
    handles = [first.plot([], [], color=color)[0] for color in colors.values()]
    curves.legend(handles, colors, loc="outside lower center", ncols=max(1, len(panels)), fontsize=7)


def _draw_heat_map(axis: Any, result: Result, groups: Sequence[str], rules: Sequence[str]) -> None:
    """Groups against desiderata; cells of groups without heads stay empty."""
    values = [[float("nan") for _ in rules] for _ in groups]
    for mask in result.facts["chosen"]:
        row, column = groups.index(mask["group"]), rules.index(mask["desideratum"])
        cell = _accuracy(result, mask)
        values[row][column] = cell.value
        text = f"{cell.value:.2f} {cell.margin}".rstrip() + f"\n{_heads_of_heads(result, mask)}"
        color = "white" if cell.value > 0.6 else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_title(f"DCM on {result.facts['model']}: test targets answered", fontsize=9)
    axis.set_xticks(range(len(rules)), [rule.replace("_", " ") for rule in rules], rotation=30, ha="right")
    axis.set_yticks(range(len(groups)), groups)
