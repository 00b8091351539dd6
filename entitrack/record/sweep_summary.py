"""What the runs of a sweep say together: one table and one figure over what was varied.

1. `sweep.json` names the jobs, their words and their folders; what differs between the words are the axes.
2. Runs that differ in nothing but seeds are one point: its value is their mean, its interval that of Student's t over
   the seeds; where there is one seed, it is the run's own.
3. The numbers are those of each method's main table, row by row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from entitrack.core.drawing import Drawing, Mark, Rows, other_hue
from entitrack.core.drawing import Row as DrawnRow
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate, over_repeats
from entitrack.core.table import Cell, Table
from entitrack.disk.files import appearing
from entitrack.disk.reading import read_json
from entitrack.record.figures.page import draw
from entitrack.record.folder import RESULT
from entitrack.record.loading import load
from entitrack.record.tracking import numbers

SWEEP, FIGURE = "sweep.json", "sweep.png"
FORMAT = 1
"""Number of the layout of `sweep.json`."""


class JobRecord(TypedDict):
    """A job of a sweep, as `sweep.json` has it: its place, its words, its folder within the sweep's, why it failed."""

    number: int
    words: list[str]
    folder: str
    failed: str | None


@dataclass(frozen=True)
class SweptRun:
    """A run of a sweep.

    Attributes:
        point: Axis -> the value that was given.
        result: What it found.
    """

    point: Mapping[str, str]
    result: Result = field(repr=False)


@dataclass(frozen=True)
class Row:
    """A row of the table: a row of the method's own, at one point of the axes.

    Attributes:
        label: Name of the method's row.
        point: Axis -> value, without seeds.
        values: Column -> the number of each run there.
    """

    label: str
    point: tuple[str, ...]
    values: Mapping[str, Sequence[float | Estimate]]

    def cell(self, column: str) -> Cell:
        """The mean over the runs, with an interval over them; one run's own number."""
        there = self.values.get(column, ())
        if len(there) <= 1:
            return there[0] if there else None
        return over_repeats([_value(number) for number in there])

    @property
    def runs(self) -> int:
        """Number of runs."""
        return max(len(there) for there in self.values.values())


def write_sweep(folder: Path, command: str, jobs: Sequence[JobRecord]) -> None:
    """Write what the jobs of a sweep are, and which have failed.

    Args:
        folder: The sweep's folder.
        command: The command line, without keys.
        jobs: The jobs, without keys.
    """
    record = {"format": FORMAT, "command": command, "jobs": list(jobs)}
    with appearing(folder / SWEEP) as stream:
        stream.write((json.dumps(record, indent=1, allow_nan=False) + "\n").encode(errors="backslashreplace"))


def read_runs(folder: Path, step: str = "") -> list[SweptRun]:
    """The runs of a sweep that have ended; a job that failed may have been refused a folder with another's result.

    Args:
        folder: The sweep's folder.
        step: Of a sweep of studies, the step that is looked at.

    Raises:
        UserError: There is no `sweep.json`, it is not one, or no run has ended.
    """
    path = folder / SWEEP
    if not path.is_file():
        raise UserError(str(path), "there is no such file", fix="pass the folder of a sweep")
    record = read_json(str(path), str(path))
    if record.get("format") != FORMAT or not all(map(_is_job, record.get("jobs", [None]))):
        raise UserError(str(path), f"is no record of a sweep of format {FORMAT}", fix="run the sweep again")
    jobs: list[JobRecord] = record["jobs"]
    points = axes_of([job["words"] for job in jobs])
    places = [folder / job["folder"] / step for job in jobs]
    held = [(point, place) for job, point, place in zip(jobs, points, places, strict=True) if job["failed"] is None]
    ended = [(point, place) for point, place in held if (place / RESULT).is_file()]
    if not ended:
        raise UserError(str(folder), f"no run of {f'step {step}' if step else 'the sweep'} has ended", _steps(places))
    return [SweptRun(point, load(place)) for point, place in ended]


def _is_job(entry: Any) -> bool:
    """Whether an entry of `sweep.json` is a job."""
    known = isinstance(entry, dict) and entry.keys() == JobRecord.__annotations__.keys()
    return known and isinstance(entry["folder"], str) and isinstance(entry["words"], list)


def _steps(places: Sequence[Path]) -> list[str]:
    """Steps that there are, where the jobs are studies."""
    return sorted({path.parent.name for place in places for path in place.glob(f"*/{RESULT}")})


def axes_of(jobs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """What differs between the words of some jobs: of each, key -> value, in the order of the words."""
    told = [dict(_pair(word) for word in words) for words in jobs]
    keys = dict.fromkeys(key for words in told for key in words)
    axes = [key for key in keys if len({words.get(key) for words in told}) > 1]
    return [{axis: words.get(axis, "") for axis in axes} for words in told]


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key.lstrip("+"), value


def is_seed(axis: str) -> bool:
    """Whether runs that differ in it are repeats of one another."""
    return axis.rpartition(".")[2] == "seed"


def tables(runs: Sequence[SweptRun]) -> list[Table]:
    """A table a method: its rows at every point, one below the other."""
    return [_table(method, of) for method, of in _by_method(runs).items() if rows_of(of)]


def _by_method(runs: Sequence[SweptRun]) -> dict[str, list[SweptRun]]:
    methods = dict.fromkeys(run.result.method for run in runs)
    return {method: [run for run in runs if run.result.method == method] for method in methods}


def _table(method: str, runs: Sequence[SweptRun]) -> Table:
    axes, rows = shown_axes(runs), rows_of(runs)
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    repeated = any(row.runs > 1 for row in rows)
    cells = tuple(
        (row.label, *row.point, *(row.cell(column) for column in columns), *([row.runs] * repeated)) for row in rows
    )
    title = f"{method} over {', '.join(axes) or 'seeds'}"
    pooled = "; means over seeds, with 95 % intervals over them" if repeated else ""
    names = [f"{column} [95 %]" if _has_interval(rows, column) else column for column in columns]
    first = runs[0].result.tables[0].columns[0]
    return Table(title + pooled, (first, *axes, *names, *(["seeds"] * repeated)), cells)


def _has_interval(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(row.cell(column), Estimate) for row in rows)


def shown_axes(runs: Sequence[SweptRun]) -> list[str]:
    """The axes that differ between runs of one method, without seeds."""
    axes = [axis for axis in runs[0].point if not is_seed(axis)]
    return [axis for axis in axes if len({run.point[axis] for run in runs}) > 1]


def rows_of(runs: Sequence[SweptRun]) -> list[Row]:
    """The rows of a method's main table at every point; those of one name together, in the order of the jobs."""
    axes = shown_axes(runs)
    found: dict[tuple[str, tuple[str, ...]], dict[str, list[float | Estimate]]] = {}
    for run in runs:
        point = tuple(run.point[axis] for axis in axes)
        for label, column, number in numbers(run.result.tables[0]):
            found.setdefault((label, point), {}).setdefault(column, []).append(number)
    labels = list(dict.fromkeys(label for label, _ in found))
    return [Row(label, point, found[label, point]) for each in labels for label, point in found if label == each]


def drawing(runs: Sequence[SweptRun]) -> Drawing | None:
    """The first number of each method's rows, a panel a method and a row a point; single seeds are its small dots."""
    panels = [_panel(method, of) for method, of in _by_method(runs).items() if rows_of(of)]
    if not panels:
        return None
    repeated = any(row.draws for panel in panels for row in panel.rows)
    over = "Bars: 95 % intervals over seeds; dots: single seeds." if repeated else "Bars: 95 % intervals."
    return Drawing(f"A sweep of {len(runs)} runs", tuple(panels), None, (over,))


def _panel(method: str, runs: Sequence[SweptRun]) -> Rows:
    """A method's rows, point by point."""
    rows = rows_of(runs)
    column = next(iter(rows[0].values))
    points = list(dict.fromkeys(row.point for row in rows))
    shown = tuple(_shown(row, column, points.index(row.point)) for row in rows if column in row.values)
    return Rows(f"{method}, {len(runs)} runs", column, ", ".join(shown_axes(runs)), shown, draws="single seeds")


def _shown(row: Row, column: str, number: int) -> DrawnRow:
    """A row of the table as one of a figure."""
    cell, point = row.cell(column), ", ".join(row.point)
    single = tuple(_value(each) for each in row.values[column])
    marks = (Mark(cell, other_hue(number), point),) if isinstance(cell, Estimate | float) else ()
    return DrawnRow(", ".join(filter(None, (row.label, point))), marks, single if len(single) > 1 else ())


def _value(number: float | Estimate) -> float:
    return number.value if isinstance(number, Estimate) else number


def draw_into(folder: Path, runs: Sequence[SweptRun], name: str = FIGURE) -> Path | None:
    """Draw the figure into the sweep's folder; gives its path, None where there is nothing to draw."""
    drawn = drawing(runs)
    if drawn is None:
        return None
    stream = io.BytesIO()
    draw(drawn, " ".join(drawn.notes)).savefig(stream, format="png", dpi=200)
    with appearing(folder / name) as file:
        file.write(stream.getvalue())
    return folder / name
