"""Examples of desiderata as a table."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.result import Result
from entitrack.core.table import Cell, Table


def tables(result: Result) -> Sequence[Table]:
    """Four lines each: meaning, clean prompt, counterfactual, target."""
    rows: list[tuple[Cell, ...]] = []
    for example in result.facts["examples"]:
        rows.append((example["desideratum"], "meaning", example["meaning"]))
        rows.append(("", "clean", f"{example['clean']} -> {example['answer']}"))
        rows.append(("", "counterfactual", example["counterfactual"]))
        rows.append(("", "target", example["target"]))
    return (Table("Desiderata", ("desideratum", "", "text"), tuple(rows)),)


def headline(result: Result) -> str:
    """How many there are."""
    return f"pairs of {len(result.facts['examples'])} desiderata"


def notes(result: Result) -> Sequence[str]:
    """What target means."""
    return ("target: the answer to the clean prompt once the counterfactual's activations are in it",)


def claim(result: Result) -> str:
    """How many pairs are shown; nothing is measured."""
    return f"{len(result.facts['examples'])} desiderata, one pair of each: nothing is measured here."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return ("Pairs are examples of what the other methods ask.",)


def drawing(result: Result) -> None:
    """There is none: nothing is measured."""
