"""Which heads of each group carry what, and how the masks were learnt: tables, words and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from entitrack.core.drawing import (
    ColourScale,
    Curve,
    Drawing,
    HeatMap,
    Names,
    Panel,
    Plot,
    in_cell,
    other_hue,
    point,
    sizes_of,
    spoken,
)
from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.discoveries import q_values
from entitrack.core.statistics.estimates import FEW_CONTEXTS, Estimate
from entitrack.core.table import Cell, Table

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


def headline(result: Result) -> str:
    """The mask that adds most."""
    gains = {_unit(mask): _gain(result, mask) for mask in result.facts["chosen"]}
    if not gains:
        return "no group has heads"
    most = max(gains, key=lambda unit: gains[unit].value)
    return f"{most} most: {gains[most]} more answers as the mask says"


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


def claim(result: Result) -> str:
    """What each group carries, as the notes have it."""
    carried = _q_by_unit(result)
    groups = result.facts["groups"].items()
    if any(math.isnan(carried[_unit(mask)]) for mask in result.facts["chosen"]):
        return f"What the groups of {result.facts['model']} carry is not said: {FEW_CONTEXTS}."
    told = [_in_words(result, group, heads, carried) for group, heads in groups if heads]
    counts = [
        mask for mask in result.facts["chosen"] if (carried[_unit(mask)] <= _RATE) and _gain(result, mask).value > 0
    ]
    if not counts:
        return f"On {result.facts['model']}: {'; '.join(told) or 'no group has heads'}."
    best = max(counts, key=lambda mask: _gain(result, mask).value)
    return (
        f"On {result.facts['model']}: {'; '.join(told)}. Clearest: {_unit(best)}, {_accuracy(result, best)} with the"
        f" mask's {_heads_of_heads(result, best)} heads patched, {_accuracy(result, best, 'nothing')} with nothing."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A mask is one that training found: heads outside it may carry the same.",
        "That a group carries none of these desiderata does not say that it carries nothing.",
    )


def drawing(result: Result) -> Drawing:
    """Test accuracy of the chosen masks, with heads taken of heads there; and, a panel a group, how they came."""
    groups, rules = list(result.facts["groups"]), result.facts["desiderata"]
    trained = [group for group in groups if result.facts["groups"][group]]
    panels: tuple[Panel, ...] = (_map(result, groups, rules), *(_learning(result, group) for group in trained))
    empty = [spoken(group) for group in groups if group not in trained]
    notes = [
        "In cells: share of test targets answered, its 95 % interval, and heads of the mask of those of the group.",
        "Curves: the masks on validation prompts; faint: other weights and draws.",
        *([f"Hatched: groups without heads ({', '.join(empty)})."] if empty else []),
    ]
    sizes = sizes_of(result["correct"].prompts) if result.measurements else None
    title = f"Desiderata-based component masking on {result.facts['model']}: what each group carries"
    return Drawing(title, panels, ColourScale("share of test targets answered", 0, 1), tuple(notes), sizes)


def _map(result: Result, groups: Sequence[str], rules: Sequence[str]) -> HeatMap:
    """Groups against desiderata; cells of groups without heads stay empty."""
    values = [[math.nan] * len(rules) for _ in groups]
    texts = [[""] * len(rules) for _ in groups]
    for mask in result.facts["chosen"]:
        row, column = groups.index(mask["group"]), rules.index(mask["desideratum"])
        cell = _accuracy(result, mask)
        values[row][column], texts[row][column] = cell.value, f"{in_cell(cell)}\n{_heads_of_heads(result, mask)}"
    names = Names("", tuple(map(spoken, groups))), Names("", tuple(map(spoken, rules)))
    return HeatMap(
        "test targets answered", *names, tuple(tuple(row) for row in values), tuple(tuple(row) for row in texts)
    )


def _learning(result: Result, group: str) -> Plot:
    """Validation accuracy by step, a hue a desideratum; other weights and draws than the chosen ones are faint."""
    validation, chosen, rules = result["validation"], result.facts["chosen"], result.facts["desiderata"]
    steps, curves = [int(step) for step in validation.names("step")], []
    for mask in _every_mask(result):
        if mask["group"] == group:
            rule, heights = str(mask["desideratum"]), validation.at(**mask).values.tolist()
            points = tuple(
                point(x, y, f"{spoken(rule)}, step {x}: {y:.3f}") for x, y in zip(steps, heights, strict=True)
            )
            curves.append(Curve(spoken(rule), other_hue(rules.index(rule)), points, faint=mask not in chosen))
    return Plot(spoken(group), "step", "validation targets answered", tuple(curves), y_limits=(-0.02, 1.02))
