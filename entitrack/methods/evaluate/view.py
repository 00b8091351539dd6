"""Accuracy of the family, by what the task says of its prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from entitrack.core.drawing import Curve, Drawing, Plot, member_hues, point, sizes_of
from entitrack.core.facets import FacetWords
from entitrack.core.measurement import Measurement
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.methods.evaluate.settings import PHRASING


def facet_words(result: Result, facet: str) -> FacetWords:
    """How a facet is shown: as the task says, or else under its own name."""
    said = result.facts["facets"].get(facet)
    return FacetWords(**said) if said else FacetWords(facet, facet, f"{facet} {{}}")


def tables(result: Result) -> Sequence[Table]:
    """Accuracy by the prompts' first facet, within each of its values by every other one; and both accuracies.

    Where phrasings are compared, both accuracies of each come first, and the others are of each phrasing.
    """
    both = [both_accuracies(result)] if "correct_among" in result.measurements else []
    if not result.facts.get("phrasings"):
        return (*_broken_down(result, result["correct"], ""), *both)
    by_phrasing = phrased(result, result["correct"]).items()
    return (*both, *(table for name, part in by_phrasing for table in _broken_down(result, part, f", {name}")))


def _broken_down(result: Result, correct: Measurement, whose: str) -> list[Table]:
    """Accuracy by the first facet, and within each of its values by every other one."""
    models, facets = correct.names("model"), facet_names(correct)
    if not facets:
        return [Table(f"Accuracy{whose}", ("prompts", *models, "n"), (_row(correct, "all", count=True),))]
    outer, *inner = facets
    words = facet_words(result, outer)
    parts = {value: correct.where(outer, value) for value in facet_values(correct, outer)}
    rows = tuple(_row(part, words.shown(value), count=True) for value, part in parts.items())
    within = [
        _within(part, facet, facet_words(result, facet), f"{words.shown(value)}{whose}")
        for value, part in parts.items()
        for facet in inner
    ]
    return [Table(f"Accuracy{whose}", (words.column, *models, "n"), rows), *within]


def phrased(result: Result, measured: Measurement) -> dict[str, Measurement]:
    """Phrasing -> what was measured in it; all under an empty name where none are compared."""
    phrasings = result.facts.get("phrasings") or ()
    return {name: measured.where(PHRASING, number) for number, name in enumerate(phrasings)} or {"": measured}


def both_accuracies(result: Result) -> Table:
    """Accuracy over the whole vocabulary and among the words offered, each beside what is right by chance."""
    correct, among, chance = (phrased(result, result[name]) for name in ("correct", "correct_among", "chance_among"))
    facets = facet_names(result["correct"])
    words = facet_words(result, facets[0]) if facets else FacetWords("prompts", "", "")
    rows: list[tuple[Cell, ...]] = []
    for model in result["correct"].names("model"):
        for name in correct:
            three = correct[name], among[name], chance[name]
            for value in facet_values(correct[name], facets[0]) if facets else [None]:
                parts = [part if value is None else part.where(facets[0], value) for part in three]
                shown = "all" if value is None else words.shown(value)
                rows.append((model, *([name] if name else []), shown, *_both(model, *parts)))
    heads = ("model", *(["phrasing"] if result.facts.get("phrasings") else []), words.column)
    columns = (*heads, "accuracy [95 %]", "chance", "among [95 %]", "chance among", "n")
    return Table("Accuracy, and accuracy among the words that the context offers", columns, tuple(rows))


def _both(model: str, correct: Measurement, among: Measurement, chance: Measurement) -> tuple[Cell, ...]:
    """Both accuracies of a model, each beside its chance; number of prompts."""
    blind = commonest(correct.prompts.answers) if correct.prompts else 0.0
    by_chance = float(chance.values.double().mean())
    return (correct.estimate(model=model), blind, among.estimate(model=model), by_chance, correct.size("prompt"))


def commonest(answers: Sequence[str]) -> float:
    """How often the commonest of some answers is right."""
    return max(Counter(answers).values()) / len(answers)


def _within(correct: Measurement, facet: str, words: FacetWords, whose: str) -> Table:
    """Accuracy by one facet, of prompts that agree in the first."""
    rows = [_row(correct.where(facet, value), words.shown(value)) for value in facet_values(correct, facet)]
    return Table(f"Accuracy by {words.axis}, {whose}", (words.column, *correct.names("model")), tuple(rows))


def _row(correct: Measurement, label: str, count: bool = False) -> tuple[Cell, ...]:
    estimates = [correct.estimate(model=model) for model in correct.names("model")]
    return (label, *estimates, *([correct.size("prompt")] if count else []))


def facet_names(correct: Measurement) -> list[str]:
    """What the prompts of a phrasing are told apart by."""
    assert correct.prompts is not None
    return [name for name in correct.prompts.facets if name != PHRASING]


def facet_values(correct: Measurement, facet: str) -> list[int]:
    """The values of a facet, in order."""
    assert correct.prompts is not None
    return correct.prompts.facets[facet].unique().tolist()


def headline(result: Result) -> str:
    """The accuracy of every model, over all prompts."""
    correct = result["correct"]
    shares = (f"{model} {correct.estimate(model=model)}" for model in correct.names("model"))
    return f"accuracy {', '.join(shares)}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    right = "right = the answer's first token is the most likely one; 95 % intervals over contexts"
    if "correct_among" not in result.measurements:
        return (right,)
    return (
        right,
        "right among the words offered = likelier than every other answer that the context offers",
        "chance = always the commonest answer; chance among = one of the words offered, at random",
    )


def claim(result: Result) -> str:
    """Accuracy of the best and the first model over all prompts, beside chance."""
    correct = result["correct"]
    models = correct.names("model")
    accuracies = {model: correct.estimate(model=model) for model in models}
    best = max(models, key=lambda model: accuracies[model].value)
    assert correct.prompts is not None
    chance = f"always the commonest answer: {commonest(correct.prompts.answers):.3f}"
    if best == models[0]:
        return f"{best} answers {accuracies[best]} of all prompts rightly ({chance})."
    apart = correct.difference({"model": best}, {"model": models[0]})
    return (
        f"{best} answers {accuracies[best]} of all prompts rightly, {models[0]} {accuracies[models[0]]}: apart by"
        f" {apart} ({chance})."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Accuracy says that a task is done, not how.",
        "The best of several models is named; its interval does not cover the choice.",
    )


def drawing(result: Result) -> Drawing | None:
    """Accuracy against the first facet that differs between prompts; None where prompts have no facets."""
    correct = result["correct"]
    facets = facet_names(correct)
    if not facets:
        return None
    facet = next((name for name in facets if len(facet_values(correct, name)) > 1), facets[-1])
    words, models = facet_words(result, facet), correct.names("model")
    hues, panels = member_hues(result, models), []
    for name, part in phrased(result, correct).items():
        values, curves = facet_values(part, facet), []
        for place, model in enumerate(models):
            aside = 0.06 * (place - (len(models) - 1) / 2)
            estimates = [part.where(facet, value).estimate(model=model) for value in values]
            points = (
                point(value + words.first + aside, entry, f"{model}, {words.shown(value)}: {entry}")
                for value, entry in zip(values, estimates, strict=True)
            )
            curves.append(Curve(model, hues[model], tuple(points)))
        panels.append(Plot(name, words.axis, "accuracy", tuple(curves), y_limits=(0, 1.02)))
    notes = ("Bars: 95 % intervals over contexts; models are drawn a little aside.",)
    return Drawing("How well does each model do the task?", tuple(panels), None, notes, sizes_of(correct.prompts))
