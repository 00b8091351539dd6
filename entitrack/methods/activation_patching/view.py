"""Which group carries what, in every model: the published table, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.drawing import ColourScale, Drawing, HeatMap, Names, in_cell, sizes_of, spoken
from entitrack.core.quirks import published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.activation_patching.settings import NOTHING


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


def headline(result: Result) -> str:
    """What is answered most, with which group patched, in the first model."""
    correct = result["correct"]
    model, *_ = correct.names("model")
    pairs = list(product(correct.names("group"), correct.names("desideratum")))
    if not pairs:
        return "no group has heads"
    most = max(pairs, key=lambda pair: _accuracy(result, model, *pair).value)
    return f"{model}: {most[0]}/{most[1]} most, {_accuracy(result, model, *most)}"


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


def claim(result: Result) -> str:
    """What each model's groups carry best, beside the unpatched model."""
    models, groups, rules = (result["correct"].names(axis) for axis in ("model", "group", "desideratum"))
    told = []
    for model in models:
        places = [(group, rule) for group in groups if group != NOTHING for rule in rules]
        group, rule = max(places, key=lambda place: _accuracy(result, model, *place).value)
        best, nothing = _accuracy(result, model, group, rule), _accuracy(result, model, NOTHING, rule)
        told.append(f"in {model} the {spoken(group)}s carry {spoken(rule)} best, {best} (unpatched {nothing})")
    return f"I{'; '.join(told)[1:]}."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A group that moves an answer carries something; that it carries nothing else is not said.",
        "The best of several groups and desiderata is named; the table has all of them.",
    )


def drawing(result: Result) -> Drawing:
    """Accuracy, a panel a model: groups against desiderata, with the interval in every cell."""
    models, groups, rules = (result["correct"].names(axis) for axis in ("model", "group", "desideratum"))
    names = Names("", tuple(spoken(group) for group in groups)), Names("", tuple(spoken(rule) for rule in rules))
    panels = []
    for model in models:
        cells = [[_accuracy(result, model, group, rule) for rule in rules] for group in groups]
        values = tuple(tuple(cell.value for cell in row) for row in cells)
        panels.append(HeatMap(model, *names, values, tuple(tuple(in_cell(cell) for cell in row) for row in cells)))
    title = f"Activation patching of {result.facts['component']}: how often the target is answered"
    notes = ("Row 'nothing': the model as it is. In cells, the share and its 95 % interval.",)
    scale = ColourScale("share of targets answered", 0, 1)
    return Drawing(title, tuple(panels), scale, notes, sizes_of(result["correct"].prompts))
