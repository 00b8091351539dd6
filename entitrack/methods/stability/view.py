"""How stable a circuit is, as tables and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from entitrack.core.drawing import LEFT_OUT, TESTED, Drawing, Line, Mark, Row, Rows, spoken
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate, counted
from entitrack.core.table import Cell, Table
from entitrack.methods.stability.notes import notes
from entitrack.models.anatomy import Head

__all__ = ["drawing", "notes", "tables"]


def tables(result: Result) -> Sequence[Table]:
    """How far searches agree; what of the circuit is found again; the heads one by one; the searches."""
    circuit = result.facts["circuit"]
    against = (_against(result, circuit),) if circuit else ()
    return (_agreement(result), *against, _heads(result), _searches(result))


def _pairs(result: Result) -> list[tuple[str, str]]:
    """Every stage, over everything that searches differ in."""
    return [(stage, over) for stage in result.facts["stages"] for over in result.facts["over"]]


def _agreement(result: Result) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage, over in _pairs(result):
        groups, where = groups_of(result, stage, over), {"over": over, "stage": stage}
        in_all = set(groups[0]).intersection(*groups)
        p_value = result["p_value"].number(**where)
        rows.append(
            (
                *(stage, result.facts["stages"][stage]["role"], over, len(groups)),
                *(f"{fmean(len(heads) for heads in groups):.1f}", len(in_all)),
                *(_text(result[name].number(**where)) for name in ("jaccard", "jaccard_by_chance")),
                "" if math.isnan(p_value) else f"{p_value:.1e}",
                _text(result["rank_correlation"].number(**where)),
            )
        )
    columns = ("group", "role", "over", "searches", "heads", "in all", "Jaccard", "its chance", "p", "ranks")
    title = f"Circuit of {result.facts['model']}, searched again: how far two searches agree"
    return Table(title, columns, tuple(rows))


def _against(result: Result, circuit: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage, over in _pairs(result):
        heads = circuit_heads(result, stage)
        groups = groups_of(result, stage, over, again=True)
        if heads is None or not groups:
            continue
        found = [head for group in groups for head in group]
        never = [head for head in heads if head not in found]
        always = [head for head in dict.fromkeys(found) if head not in heads and found.count(head) == len(groups)]
        rows.append((stage, over, len(heads), _text(found_again(result, stage, over)), _named(never), _named(always)))
    columns = ("group", "over", "in it", "found again", "never again", "always, not in it")
    return Table(f"Against the circuit {circuit['name']}", columns, tuple(rows))


def _heads(result: Result) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for stage in result.facts["stages"]:
        reference, written = circuit_heads(result, stage), _heads_of(result.facts["written"][stage])
        for head in ever_chosen(result, stage):
            shares = [inclusion(result, over, stage, head) for over in result.facts["over"]]
            rank = reference.index(head) + 1 if reference and head in reference else None
            stays = "yes" if head in written else "no"
            rows.append((stage, _named([head]), *shares, *([rank] if _has_circuit(result) else []), stays))
    over = tuple(f"{name} [95 %]" for name in result.facts["over"])
    known = ("rank",) if _has_circuit(result) else ()
    columns = ("group", "layer.head", *over, *known, "written")
    title = f"; rank in the circuit {result.facts['circuit']['name']}" if _has_circuit(result) else ""
    return Table(f"Share of searches that choose a head{title}", columns, tuple(rows))


def _searches(result: Result) -> Table:
    stages = list(result.facts["stages"])
    rows = tuple(
        (each["name"], each["prompts"], each["contexts"], *(len(each["heads"][stage]) for stage in stages))
        for each in result.facts["searches"]
    )
    return Table("Searches, and how many heads they choose", ("search", "prompts", "contexts", *stages), rows)


def groups_of(result: Result, stage: str, over: str, again: bool = False) -> list[list[Head]]:
    """What each search over seeds, halves or phrasings chose in a stage.

    Args:
        result: The result.
        stage: The stage.
        over: What the searches differ in.
        again: Without searches on all prompts that the circuit was found on: they do not find it again. Halves are
            fewer prompts, and stay.
    """
    names, circuit = result.facts["over"][over], result.facts["circuit"]
    halves = result.facts["over"].get("halves", [])
    same = circuit["same_prompts"] if again and circuit else []
    left = [name for name in names if name not in same or name in halves]
    return [_heads_of(each["heads"][stage]) for each in result.facts["searches"] if each["name"] in left]


def found_again(result: Result, stage: str, over: str) -> float:
    """Share of the circuit's heads that a search chooses again, on average; nan where there are none, or no search."""
    heads, groups = circuit_heads(result, stage), groups_of(result, stage, over, again=True)
    return fmean(len(set(heads) & set(group)) / len(heads) for group in groups) if heads and groups else math.nan


def circuit_heads(result: Result, stage: str) -> list[Head] | None:
    """The heads of the circuit's group of that name; None where it has none that the stage looks for."""
    circuit = result.facts["circuit"]
    for group in circuit["groups"] if circuit else ():
        if group["name"] == stage and group["why_not"] is None:
            return _heads_of(group["heads"])
    return None


def inclusion(result: Result, over: str, stage: str, head: Head) -> Estimate:
    """Share of the searches that choose a head, with the interval of so many independent trials."""
    groups = groups_of(result, stage, over)
    return counted(sum(head in group for group in groups), len(groups))


def ever_chosen(result: Result, stage: str) -> list[Head]:
    """The heads that any search chose in a stage, those that most searches chose first."""
    shares = result["inclusion"].at(stage=stage).values
    heads = dict.fromkeys(tuple(head) for each in result.facts["searches"] for head in each["heads"][stage])
    return sorted(heads, key=lambda head: [-float(share[head]) for share in shares])


def _heads_of(listed: Sequence[Sequence[int]]) -> list[Head]:
    return [(layer, head) for layer, head in listed]


def _named(heads: Sequence[Head]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


def _has_circuit(result: Result) -> bool:
    return result.facts["circuit"] is not None


def _text(number: float) -> str:
    """A number, or nothing where there is none."""
    return "" if math.isnan(number) else f"{number:.2f}"


def headline(result: Result) -> str:
    """How far two searches agree at least and at most, beside chance; or what one finds again of the circuit."""
    told = [
        f"{what} {ends}"
        for name, what in (("jaccard", "Jaccard of two searches"), ("jaccard_by_chance", "by chance"))
        if (ends := _ends([result[name].number(over=over, stage=stage) for stage, over in _pairs(result)]))
    ]
    if not told and (ends := _ends([found_again(result, stage, over) for stage, over in _pairs(result)])):
        told.append(f"of the circuit's groups {ends} is found again")
    return ", ".join(told) or "no two searches and no circuit to compare with"


def _ends(values: Sequence[float]) -> str:
    """The least and the largest of some numbers, of those that are there."""
    there = [value for value in values if not math.isnan(value)]
    return f"{min(there):.2f} to {max(there):.2f}" if there else ""


def claim(result: Result) -> str:
    """How far two searches agree, group by group, beside chance; or what one finds again of the circuit."""
    over, told, again = next(iter(result.facts["over"])), [], []
    for stage in result.facts["stages"]:
        found, chance, p = (
            result[name].number(over=over, stage=stage) for name in ("jaccard", "jaccard_by_chance", "p_value")
        )
        if not math.isnan(found):
            told.append(f"{spoken(stage)} {found:.2f} (by chance {chance:.2f}, p {p:.1e})")
        share = found_again(result, stage, over)
        if not math.isnan(share):
            again.append(f"{spoken(stage)} {share:.2f}")
    model = result.facts["model"]
    if not told and again:
        return f"Of the circuit of {model}, a search over {over} finds again: {'; '.join(again)}."
    agreed = "; ".join(told) or "in nothing"
    return f"Two searches for the circuit of {model}, over {over}, agree (Jaccard): {agreed}."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A circuit that is found again is not thereby the right one: all searches share their method.",
        "A head below the least share may matter in some contexts only.",
    )


def drawing(result: Result) -> Drawing:
    """Share of the deciding searches that choose each head, with intervals, a panel a group; grey ones are left out."""
    over, facts = next(iter(result.facts["over"])), result.facts
    chosen = {stage: ever_chosen(result, stage) for stage in facts["stages"]}
    panels = tuple(
        Rows(
            spoken(stage),
            f"share of searches ({over})",
            "head (layer.head)",
            tuple(_head_row(result, over, stage, head) for head in heads),
            (Line(facts["least"], "up", label="least share"),),
            (0, 1.02),
        )
        for stage, heads in chosen.items()
        if heads
    )
    empty = [spoken(stage) for stage, heads in chosen.items() if not heads]
    notes = ["Bars: 95 % intervals of so many independent searches."]
    notes += [f"No search chooses a head of {', '.join(empty)}."] if empty else []
    return Drawing(f"Circuit of {facts['model']}, searched again", panels, None, tuple(notes))


def _head_row(result: Result, over: str, stage: str, head: Head) -> Row:
    written = list(head) in result.facts["written"][stage]
    hue, label = (TESTED, "in the stable circuit") if written else (LEFT_OUT, "left out")
    return Row(_named([head]), (Mark(inclusion(result, over, stage, head), hue, label),))
