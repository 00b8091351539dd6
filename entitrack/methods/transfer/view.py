"""The matrix of circuits and tasks: faithfulness, what a donor's heads bring, and random heads beside both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from entitrack.core.drawing import ColourScale, Drawing, HeatMap, Names, in_cell, sizes_of
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.core.statistics.controls import rank_p
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.transfer.settings import EMPTY, MODEL


def tables(result: Result) -> Sequence[Table]:
    """F(C)/F(M) as a matrix, what it is made of, and the same of transplants where the base has donors."""
    tasks, circuits = result.facts["tasks"], list(result.facts["circuits"])
    models = result[f"value.{tasks[0]}"].names("model")
    matrix = tuple(
        (model, name, *(ratio(result, task, model, name) for task in tasks))
        for model, name in product(models, circuits)
    )
    columns = tuple(f"on {task} [95 %]" for task in tasks)
    title = (
        f"F(C)/F(M) of every circuit on every task; F is {result.facts['metric']}, {result.facts['ablation']} ablation"
    )
    found = [
        Table(title, ("model", "circuit of", *columns), matrix),
        Table("The same task by task, beside random circuits of its shape", _COLUMNS, tuple(_rows(result))),
    ]
    if f"correct.{tasks[0]}" not in result.measurements:
        return found
    donors = result[f"correct.{tasks[0]}"].names("donor")
    gains = tuple(
        (donor, name, *(gain(result, task, donor, name) for task in tasks)) for donor, name in product(donors, circuits)
    )
    base = result.facts["base"]
    return [
        *found,
        Table(
            f"CMAP: what {base} gains from a donor's heads of every circuit, on every task",
            ("donor", "circuit of", *columns),
            gains,
        ),
        Table("The same task by task, beside random heads at the same roles", _CMAP_COLUMNS, tuple(_cmap_rows(result))),
    ]


_COLUMNS = ("task", "model", "circuit of", "heads", "F(M) [95 %]", "F(C) [95 %]", "none", "random", "95 %", "p", "n")
_CMAP_COLUMNS = (
    "task",
    "donor",
    "circuit of",
    "base",
    "donor [95 %]",
    "base with heads [95 %]",
    "of the gap",
    "random",
    "95 %",
    "p",
)


def ratio(result: Result, task: str, model: str, circuit: str) -> Estimate:
    """F(C)/F(M), with its interval."""
    return result[f"value.{task}"].ratio({"model": model, "circuit": circuit}, {"model": model, "circuit": MODEL})


def gain(result: Result, task: str, donor: str, circuit: str) -> Estimate:
    """What the base gains, with its interval."""
    return result[f"correct.{task}"].difference(
        {"donor": donor, "circuit": circuit}, {"donor": donor, "circuit": "base"}
    )


def _cases(result: Result, first: str, of: str) -> Iterator[tuple[str, str, str]]:
    """Every task, model or donor, and circuit."""
    for task in result.facts["tasks"]:
        yield from (
            (task, name, circuit)
            for name, circuit in product(result[f"{first}.{task}"].names(of), result.facts["circuits"])
        )


def _rows(result: Result) -> Iterator[tuple[Cell, ...]]:
    for task, model, circuit in _cases(result, "value", "model"):
        values = result[f"value.{task}"]
        means = [values.estimate(model=model, circuit=name) for name in (MODEL, circuit)]
        none = float(values.means(model=model, circuit=EMPTY))
        beside = _beside(means[1].value, result[f"random.{task}"], model=model, circuit=circuit)
        yield (task, model, circuit, result.facts["circuits"][circuit], *means, none, *beside, values.size("prompt"))


def _cmap_rows(result: Result) -> Iterator[tuple[Cell, ...]]:
    for task, donor, circuit in _cases(result, "correct", "donor"):
        correct = result[f"correct.{task}"]
        base, best, moved = (correct.estimate(donor=donor, circuit=name) for name in ("base", "donor", circuit))
        gap = correct.difference({"donor": donor, "circuit": "donor"}, {"donor": donor, "circuit": "base"})
        share = (moved.value - base.value) / gap.value if gap.low > 0 or gap.high < 0 else None
        beside = _beside(moved.value, result[f"control.{task}"], donor=donor, circuit=circuit)
        yield (task, donor, circuit, base.value, best, moved, share, *beside)


def _beside(own: float, drawn: Measurement, **where: str) -> tuple[Cell, ...]:
    """Median and 95 % of random ones, and the share of them that do at least as well."""
    values = drawn.at(**where).values
    return float(values.quantile(0.5)), float(values.quantile(0.95)), rank_p(own, values.numpy())


def headline(result: Result) -> str:
    """F(C)/F(M) of the first circuit in the first model, task by task."""
    tasks, (circuit, *_) = result.facts["tasks"], result.facts["circuits"]
    model, *_ = result[f"value.{tasks[0]}"].names("model")
    shares = (f"{task} {ratio(result, task, model, circuit)}" for task in tasks)
    return f"F(C)/F(M) of circuit {circuit} in {model}: {', '.join(shares)}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    return (
        "circuit of: the task that it was found on, as the run names it; none: no head live",
        "random, 95 %: median and 95 % of random circuits of its shape; p: share of them, counting it, that do as well",
        "95 % intervals over contexts, paired for ratios and gains",
        *result.facts["overlaps"],
    )


def claim(result: Result) -> str:
    """How each circuit does on each task, in the first model, and how random ones do."""
    tasks, circuits = result.facts["tasks"], list(result.facts["circuits"])
    model, *_ = result[f"value.{tasks[0]}"].names("model")
    said = []
    for circuit, task in product(circuits, tasks):
        median = float(result[f"random.{task}"].at(model=model, circuit=circuit).values.quantile(0.5))
        share = ratio(result, task, model, circuit)
        said.append(
            f"the circuit of {circuit} does {share} of what the model does on {task} (F of random ones: {median:.3f})"
        )
    return f"In {model}, {'; '.join(said)}."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        f"Under {result.facts['ablation']} ablation alone; other ablations may order circuits otherwise.",
        "A circuit that fails on a task need not be absent from it: the task may use its heads at other positions.",
    )


def drawing(result: Result) -> Drawing:
    """A matrix a model: circuits from above, tasks from left to right, F(C)/F(M) in the cells."""
    tasks, circuits = tuple(result.facts["tasks"]), tuple(result.facts["circuits"])
    values = result[f"value.{tasks[0]}"]
    panels = tuple(_matrix(result, model, circuits, tasks) for model in values.names("model"))
    every = [value for panel in panels for row in panel.values for value in row if math.isfinite(value)]
    scale = ColourScale("F(C)/F(M)", min([0.0, *every]), max([1.0, *every]))
    notes = ("Circuits are called after what they were found on.",)
    return Drawing("Every circuit on every task", panels, scale, notes, sizes_of(values.prompts))


def _matrix(result: Result, model: str, circuits: tuple[str, ...], tasks: tuple[str, ...]) -> HeatMap:
    """F(C)/F(M) in a model."""
    cells = [[ratio(result, task, model, circuit) for task in tasks] for circuit in circuits]
    values = tuple(tuple(cell.value for cell in row) for row in cells)
    texts = tuple(tuple("" if math.isnan(cell.value) else in_cell(cell) for cell in row) for row in cells)
    return HeatMap(model, Names("circuit of", circuits), Names("task", tasks), values, texts)
