"""Two circuits side by side, as tables and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from entitrack.core.drawing import RANDOM, TESTED, Drawing, Mark, Row, Rows
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate, counted
from entitrack.core.table import Cell, Table
from entitrack.methods.compare.head_sets import GROUP, ROLE


def tables(result: Result) -> Sequence[Table]:
    """What is shared, how far the smaller is in the larger, the heads one by one, and what was found differently."""
    first, second = result.facts["circuits"]
    columns = ("", "first", "second", "shared", "by chance", "p", "Jaccard [95 %]", "its chance")
    sets, members = result.facts["sets"], result.facts["members"]
    title = f"Two circuits; first: {first}, second: {second}"
    smaller = ("", "role", "of the smaller [95 %]", "its chance", "ranks")
    listed = ("group", "role", "layer.head", "first", "second", "moved to or from")
    return (
        Table(title, columns, tuple(_row(result, each) for each in sets)),
        Table("Of the smaller, and in which order", smaller, tuple(_smaller_row(result, each) for each in sets)),
        Table("Heads, by rank", listed, tuple(_head_row(member) for member in members)),
        *_origins(result),
    )


def _row(result: Result, about: Mapping[str, Any]) -> tuple[Cell, ...]:
    label = about["label"]
    return (
        _name(about),
        *_counts(result, label),
        f"{result['by_chance'].number(set=label):.2f}",
        f"{result['p_value'].number(set=label):.1e}",
        jaccard(result, label),
        _text(result["jaccard_by_chance"].number(set=label)),
    )


def _smaller_row(result: Result, about: Mapping[str, Any]) -> tuple[Cell, ...]:
    label = about["label"]
    size = min(_counts(result, label)[:2])
    return (
        _name(about),
        " / ".join(about["roles"]),
        of_smaller(result, label),
        _text(result["by_chance"].number(set=label) / size if size else math.nan),
        _text(result["rank_agreement"].number(set=label)),
    )


def _name(about: Mapping[str, Any]) -> str:
    """A set as a table calls it."""
    if about["kind"] == GROUP:
        return str(about["name"])
    return f"all at {about['name']}" if about["kind"] == ROLE else "whole circuit"


def _text(number: float) -> str:
    """A number, or nothing where there is none."""
    return "" if math.isnan(number) else f"{number:.2f}"


def _counts(result: Result, label: str) -> tuple[int, int, int]:
    first, second, shared = (int(result[name].number(set=label)) for name in ("first", "second", "shared"))
    return first, second, shared


def jaccard(result: Result, label: str) -> Estimate:
    """Share of the heads of either circuit that both have."""
    first, second, shared = _counts(result, label)
    return counted(shared, first + second - shared)


def of_smaller(result: Result, label: str) -> Estimate:
    """Share of the smaller circuit's heads that the other has, too."""
    first, second, shared = _counts(result, label)
    return counted(shared, min(first, second))


def _head_row(member: Mapping[str, Any]) -> tuple[Cell, ...]:
    layer, head = member["head"]
    where = (member["group"], member["role"], f"{layer}.{head}")
    return (*where, member["first"], member["second"], ", ".join(member["moved"]))


def _origins(result: Result) -> Sequence[Table]:
    """What the circuits were found on, where it differs; no table where it does not, or neither says."""
    rows = tuple((key, *("" if one is None else str(one) for one in both)) for key, *both in result.facts["found_on"])
    return (Table("What they were found on, where it differs", ("key", "first", "second"), rows),) if rows else ()


def headline(result: Result) -> str:
    """How much of the two circuits is shared."""
    whole = next(each for each in result.facts["sets"] if each["kind"] not in (GROUP, ROLE))["label"]
    chance = _text(result["jaccard_by_chance"].number(set=whole))
    return f"Jaccard {jaccard(result, whole)}, by chance {chance}"


def notes(result: Result) -> Sequence[str]:
    """What is counted, what chance is, and whether both were found alike."""
    return (
        f"what is counted is a head at a role, of {result.facts['heads']} at each; no model was run",
        "by chance: what random sets of these sizes share, at each role as many as here; p: that they share as many or"
        " more (hypergeometric; each row by itself, and rows have heads in common)",
        "Jaccard: share of the heads of either that both have; 95 % intervals take heads for independent trials"
        " (Clopper and Pearson)",
        "ranks: rank correlation of the heads that both have in a group, by importance; of 2 heads it is 1 or -1",
        "moved: a head of a group of one circuit that in the other is not there, but in a group that it is not in here",
        *_about_origins(result),
    )


def _about_origins(result: Result) -> Sequence[str]:
    """Whether both circuits say what they were found on, and say the same."""
    silent = [name for name, says in zip(result.facts["circuits"], result.facts["origins"], strict=True) if not says]
    if silent:
        return [f"{name} does not say what it was found on" for name in dict.fromkeys(silent)]
    keys = [key for key, *_ in result.facts["found_on"]]
    return [f"found on differing {', '.join(keys)}" if keys else "both were found on the same, in the same way"]


def claim(result: Result) -> str:
    """What the whole circuits share, beside chance."""
    whole = next(about for about in result.facts["sets"] if about["kind"] not in (GROUP, ROLE))
    label, (first, second) = whole["label"], result.facts["circuits"]
    of_first, of_second, shared = _counts(result, label)
    return (
        f"{first} ({of_first} heads) and {second} ({of_second}) share {shared}: Jaccard {jaccard(result, label)},"
        f" by chance {result['jaccard_by_chance'].number(set=label):.2f} (p {result['p_value'].number(set=label):.1e})."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Circuits that share their heads need not do the same with them.",
        "Heads are taken for independent trials, which they are not: the same search chose them all.",
    )


def drawing(result: Result) -> Drawing:
    """Jaccard overlap of each set that has heads, with its interval, beside what chance gives."""
    rows = []
    for about in result.facts["sets"]:
        label = about["label"]
        if any(_counts(result, label)):
            chance = Mark(result["jaccard_by_chance"].number(set=label), RANDOM, "by chance")
            rows.append(Row(_name(about), (Mark(jaccard(result, label), TESTED, "shared"), chance)))
    panel = Rows("", "share of the heads of either circuit that both have (Jaccard)", "", tuple(rows), limits=(0, 1))
    first, second = result.facts["circuits"]
    notes = ("Sets without heads are left out. Bars: 95 % intervals (Clopper and Pearson).",)
    return Drawing(f"Two circuits: {first} beside {second}", (panel,), None, notes)
