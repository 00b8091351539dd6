"""Prompts that one can look into: what was read, what is right, and what each model answered."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.drawing import spoken
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.result import Result
from entitrack.record.report.markup import Markup, tag

MOST = 40
"""Prompts of a result that are shown: those that models answer differently first."""
_MOST_COLUMNS = 6


def prompts_section(result: Result) -> Markup | None:
    """A table of prompts with every answer; None for a result that has none by prompt."""
    answered = answers(result)
    if answered is None:
        return None
    predicted, correct = answered
    (axis,) = (name for name in predicted.axes if name != PROMPT)
    names = predicted.names(axis)[:_MOST_COLUMNS]
    rows = _most_telling(correct, len(names))
    body = [_row(result, predicted, correct, row, len(names)) for row in rows]
    summary = f"Prompts and answers: {len(rows)} of {predicted.size(PROMPT)}, those first that not all answer alike"
    head = tag("tr", *(tag("th", spoken(name), scope="col") for name in ("prompt", "right", *names)))
    choices = [tag("option", "all", value="")]
    choices += [tag("option", f"{spoken(name)} is wrong", value=number) for number, name in enumerate(names)]
    choose = tag("label", "show ", tag("select", choices, class_="choose"), class_="filter")
    table = tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="prompts"), class_="wide")
    return tag("details", tag("summary", summary), choose, table, class_="more")


def answers(result: Result) -> tuple[Measurement, Measurement] | None:
    """What is predicted and whether it is right, along one axis and prompts; None where there is no such pair."""
    for name in ("prediction", "intact.prediction"):
        predicted = result.measurements.get(name)
        correct = result.measurements.get(name.replace("prediction", "correct"))
        if predicted is None or correct is None or predicted.axes != correct.axes:
            continue
        while len(predicted.axes) > 2:  # the first of what is varied stands for the others
            predicted, correct = (one.at(**{one.axes[0]: 0}) for one in (predicted, correct))
        if len(predicted.axes) == 2:
            return predicted, correct
    return None


def _most_telling(correct: Measurement, columns: int) -> Sequence[int]:
    """Prompts that are answered differently, then those that all get wrong, then the others."""
    right = correct.values[:columns].sum(0).tolist()
    order = {number: (count in (0, columns), count == columns) for number, count in enumerate(right)}
    return sorted(order, key=lambda number: order[number])[:MOST]


def _row(result: Result, predicted: Measurement, correct: Measurement, row: int, columns: int) -> Markup:
    assert predicted.prompts is not None
    wrong = [number for number in range(columns) if not bool(correct.values[number, row])]
    cells = [tag("td", predicted.prompts.texts[row], class_="text"), tag("td", predicted.prompts.answers[row])]
    for number in range(columns):
        token = int(predicted.values[number, row])
        word = result.words.get(token, str(token)).strip()
        sign = "\u2717" if number in wrong else "\u2713"
        cells.append(tag("td", f"{sign} {word}", class_="wrong" if number in wrong else "right"))
    return tag("tr", cells, data_wrong=" ".join(map(str, wrong)))
