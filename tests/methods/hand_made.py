"""Results made by hand, small enough to work out: what a view shows of them is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from entitrack.core.drawing import Curve, Drawing, HeatMap, Plot, Rows
from entitrack.core.measurement import PROMPT, Measurement, PromptSet
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table


def prompts(count: int, facets: Mapping[str, Sequence[int]] | None = None) -> PromptSet:
    """Prompts, each of a context of its own."""
    texts = tuple(f"text {number}" for number in range(count))
    values = {name: torch.tensor(entries) for name, entries in (facets or {}).items()}
    return PromptSet(texts, ("answer",) * count, torch.arange(count), values)


def measured(values: Any, axes: str, on: PromptSet | None = None, **labels: Sequence[str]) -> Measurement:
    """A measurement of nested lists; axes are named in one text, `prompt` is added where there are prompts."""
    names = (*axes.split(), *([PROMPT] if on else []))
    return Measurement(torch.tensor(values), names, {name: tuple(entries) for name, entries in labels.items()}, on)


def laid_out(method: str, facts: dict[str, Any], measurements: Mapping[str, Measurement]) -> Result:
    """A result as it is once it has been written and read: its facts are what JSON gives back."""
    return Result(method, json.loads(json.dumps(facts)), measurements).laid_out()


def retold(result: Result) -> Result:
    """A result of a method, as it is once it has been written and read."""
    return replace(result, facts=json.loads(json.dumps(result.facts)), artefacts={}, tables=(), notes=()).laid_out()


def rows(table: Table) -> list[list[Cell]]:
    """The cells, an estimate as its value; all rounded."""
    plain = [[cell.value if isinstance(cell, Estimate) else cell for cell in row] for row in table.rows]
    return [[round(cell, 6) if isinstance(cell, float) else cell for cell in row] for row in plain]


def drawing(result: Result) -> Drawing:
    """What a result's figure shows."""
    found = result.drawing()
    assert found is not None
    return found


def maps(result: Result) -> list[HeatMap]:
    """The maps of a result's figure."""
    return [panel for panel in drawing(result).panels if isinstance(panel, HeatMap)]


def row_panels(result: Result) -> list[Rows]:
    """The panels of rows of a result's figure."""
    return [panel for panel in drawing(result).panels if isinstance(panel, Rows)]


def plots(result: Result) -> list[Plot]:
    """The plots of a result's figure."""
    return [panel for panel in drawing(result).panels if isinstance(panel, Plot)]


def plain(value: Estimate | float) -> float:
    """An estimate's value, or a number."""
    return value.value if isinstance(value, Estimate) else float(value)


def places(curve: Curve) -> list[tuple[float, float]]:
    """Where a curve's points are."""
    return [(entry.x, entry.y) for entry in curve.points]
