"""Accuracy of the family, by what the task says of its prompts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.facets import FacetWords
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.record.figures.canvas import error_bars, new_figure


def facet_words(result: Result, facet: str) -> FacetWords:
    """How a facet is shown: as the task says, or else under its own name."""
    said = result.facts["facets"].get(facet)
    return FacetWords(**said) if said else FacetWords(facet, facet, f"{facet} {{}}")


def tables(result: Result) -> Sequence[Table]:
    """Accuracy by the prompts' first facet; and within each of its values by every other one."""
    correct = result["correct"]
    models, facets = correct.names("model"), facet_names(correct)
    if not facets:
        return (Table("Accuracy", ("prompts", *models, "n"), (_row(correct, "all", count=True),)),)
    outer, *inner = facets
    words = facet_words(result, outer)
    parts = {value: correct.where(outer, value) for value in facet_values(correct, outer)}
    rows = tuple(_row(part, words.shown(value), count=True) for value, part in parts.items())
    within = [
        _within(part, facet, facet_words(result, facet), words.shown(value))
        for value, part in parts.items()
        for facet in inner
    ]
    return (Table("Accuracy", (words.column, *models, "n"), rows), *within)


def _within(correct: Measurement, facet: str, words: FacetWords, whose: str) -> Table:
    """Accuracy by one facet, of prompts that agree in the first."""
    rows = [_row(correct.where(facet, value), words.shown(value)) for value in facet_values(correct, facet)]
    return Table(f"Accuracy by {words.axis}, {whose}", (words.column, *correct.names("model")), tuple(rows))


def _row(correct: Measurement, label: str, count: bool = False) -> tuple[Cell, ...]:
    estimates = [correct.estimate(model=model) for model in correct.names("model")]
    return (label, *estimates, *([correct.size("prompt")] if count else []))


def facet_names(correct: Measurement) -> list[str]:
    """What the prompts are told apart by."""
    assert correct.prompts is not None
    return list(correct.prompts.facets)


def facet_values(correct: Measurement, facet: str) -> list[int]:
    """The values of a facet, in order."""
    assert correct.prompts is not None
    return correct.prompts.facets[facet].unique().tolist()


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    return ("right = the answer's first token is the most likely one; 95 % intervals over contexts",)


def figure(result: Result) -> Figure | None:
    """Accuracy against the first facet that differs between prompts; None where prompts have no facets."""
    correct = result["correct"]
    facets = facet_names(correct)
    if not facets:
        return None
    facet = next((name for name in facets if len(facet_values(correct, name)) > 1), facets[-1])
    drawn, axes = new_figure()
    axis = axes[0, 0]
    values, words = facet_values(correct, facet), facet_words(result, facet)
    for model in correct.names("model"):
        estimates = [correct.where(facet, value).estimate(model=model) for value in values]
        heights = [entry.value for entry in estimates]
        places = [value + words.first for value in values]
        axis.errorbar(places, heights, yerr=error_bars(estimates), marker="o", capsize=3, label=model)
    axis.set_xlabel(words.axis)
    axis.set_ylabel("accuracy, 95 % interval")
    axis.set_ylim(0, 1.02)
    axis.legend()
    return drawn
