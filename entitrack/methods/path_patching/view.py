"""A circuit, and the scores it was chosen by, as tables and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from entitrack.core.drawing import Drawing, HeatMap, Names, even_scale, nested, sizes_of, spoken
from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.methods.path_patching.settings import HALVES, NEGLIGIBLE

_BY_HEAD = ("score", "standard_error", "q_value", "found_again")


def tables(result: Result) -> Sequence[Table]:
    """The chosen heads group by group, and the stages."""
    rows: list[tuple[Cell, ...]] = []
    for name, stage in result.facts["stages"].items():
        for rank, (layer, head) in enumerate(stage["heads"], start=1):
            where: dict[str, str | int] = {"stage": name, "layer": layer, "head": head}
            score, error, q_value, again = (result[measured].number(**where) for measured in _BY_HEAD)
            rows.append((name, stage["role"], rank, f"{layer}.{head}", score, error, f"{q_value:.1e}", _share(again)))
    columns = ("group", "role", "rank", "layer.head", "score", "standard error", "q", "found again")
    title = f"Circuit of {result.facts['model']} by path patching"
    screened = any(stage["rerun"] is not None for stage in result.facts["stages"].values())
    stages = tuple(_stage_row(result, name, stage, screened) for name, stage in result.facts["stages"].items())
    rerun = ("rerun",) if screened else ()
    stage_columns = ("stage", "scored", *rerun, "chosen", "noise", "found again", "largest piece", "from naive")
    return (Table(title, columns, tuple(rows)), Table("Stages", stage_columns, stages))


def _stage_row(result: Result, name: str, stage: dict[str, Any], screened: bool) -> tuple[Cell, ...]:
    scored = int((~result["score"].at(stage=name).values.isnan()).sum())
    verified, found = stage["verified"], result["found_again"].at(stage=name)
    again = [found.number(layer=layer, head=head) for layer, head in stage["heads"]]
    return (
        name,
        scored,
        *([scored if stage["rerun"] is None else stage["rerun"]] if screened else []),
        len(stage["heads"]),
        f"{result['noise'].number(stage=name):.1e}",
        _share(fmean(again)) if again else "",
        f"{stage['peak_bytes'] / 2**20:.0f} MiB",
        _from_naive(verified) if verified else "",
    )


def _from_naive(verified: dict[str, Any]) -> str:
    """How far senders are from the naive way: those that were rerun, and those to first order if any was compared."""
    rough = "" if verified["rough"] is None else f"; first order {verified['rough']:.1e}"
    return f"{verified['difference']:.1e} ({verified['heads']} heads){rough}"


def _share(share: float) -> str:
    """A share, or nothing where it is not a number."""
    return "" if math.isnan(share) else f"{share:.2f}"


def headline(result: Result) -> str:
    """How many heads each group has."""
    sizes = {name: len(stage["heads"]) for name, stage in result.facts["stages"].items()}
    groups = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return f"{sum(sizes.values())} heads: {groups}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables, and which groups are empty and why."""
    facts = result.facts
    empty = [
        f"group {name} is empty: no head's score is below zero by the noise and its sampling error"
        for name, stage in facts["stages"].items()
        if not stage["heads"]
    ]
    skipped = [f"group {name} is empty: {why}" for name, why in facts["skipped"].items()]
    slow = ["warning: scored the naive way, two forward passes a head: the layers are not described in full"]
    return (
        *(slow if facts["naive"] else ()),
        "score: mean of (p_patched - p_clean) / p_clean of the right answer; most negative = most important;"
        f" over {result['effect'].size('prompt')} prompts",
        "noise: mean size of the same for a head that is left alone; errors are over contexts",
        "a head is chosen only if its score is below zero by the noise and its sampling error (t test over contexts)",
        *(
            [f"rerun: heads whose effects are exact; others, within {NEGLIGIBLE:.0%} of the largest, to first order"]
            if any(stage["rerun"] is not None for stage in facts["stages"].values())
            else []
        ),
        "q: false discovery rate among a stage's heads with no greater q (Benjamini-Hochberg over all scored)",
        f"found again: share of {HALVES} random halves of the contexts in which the head is chosen too, after the same"
        " receivers; of a stage, the mean over its heads",
        *empty,
        *skipped,
    )


def claim(result: Result) -> str:
    """How many heads were chosen, the strongest, and the noise that it stands above."""
    chosen = [(name, layer, head) for name, stage in result.facts["stages"].items() for layer, head in stage["heads"]]
    if not chosen:
        return f"No head of {result.facts['model']} is told from none: all groups are empty."
    scores = {at: result["score"].number(**dict(zip(("stage", "layer", "head"), at, strict=True))) for at in chosen}
    name, layer, head = best = min(chosen, key=scores.__getitem__)
    where: dict[str, str | int] = {"stage": name, "layer": layer, "head": head}
    error, q_value = (result[measured].number(**where) for measured in ("standard_error", "q_value"))
    stages = result.facts["stages"].values()
    groups = sum(bool(stage["heads"]) for stage in stages)
    count = len({(stage["role"], *head) for stage in stages for head in stage["heads"]})
    return (
        f"{count} heads at roles, in {groups} groups, bring the answer of {result.facts['model']}. The strongest is"
        f" {layer}.{head}, a {spoken(name)}: through its receivers alone p(answer) changes by"
        f" {scores[best]:.1%} (standard error {error:.1%}, q {q_value:.1e}); a head that is left alone changes it by"
        f" {result['noise'].number(stage=name):.1e}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "A head that is not chosen is not shown to do nothing: other heads may stand in for it.",
        "Scores are of paths through the stage's receivers alone, not of all that a head does.",
    )


def drawing(result: Result) -> Drawing:
    """Score of every head, a panel a stage; the chosen heads are ringed."""
    stages, scores = result.facts["stages"], result["score"]
    layers, heads = scores.names("layer"), scores.names("head")
    panels = tuple(
        HeatMap(
            f"{spoken(name)}\nat {spoken(stage['role'])}",
            Names("layer", layers),
            Names("head", heads),
            nested(scores.at(stage=name).values),
            told=tuple(
                tuple(_told(result, name, layer, head) for head in range(len(heads))) for layer in range(len(layers))
            ),
            ringed=tuple((layer, head) for layer, head in stage["heads"]),
            upward=True,
        )
        for name, stage in stages.items()
    )
    label = "score: mean relative change of p(answer)"
    empty = [spoken(name) for name, stage in stages.items() if not stage["heads"]]
    notes = (
        "Ringed: chosen. Red: the answer suffers without the head.",
        *(["Hatched: not scored."] if bool(scores.values.isnan().any()) else []),
        *([f"Empty, no head is below zero by the noise and its error: {', '.join(empty)}."] if empty else []),
        *(f"{spoken(name)} is not drawn: {why}." for name, why in result.facts["skipped"].items()),
    )
    scale = even_scale(label, [value for panel in panels for row in panel.values for value in row], "low", root=True)
    title = f"Path patching in {result.facts['model']}: which heads bring the answer"
    return Drawing(title, panels, scale, notes, sizes_of(result["effect"].prompts))


def _told(result: Result, stage: str, layer: int, head: int) -> str:
    """Standard error and q of a head."""
    where: dict[str, str | int] = {"stage": stage, "layer": layer, "head": head}
    error, q_value = (result[name].number(**where) for name in ("standard_error", "q_value"))
    return "not scored" if math.isnan(error) else f"standard error {error:.2g}, q {q_value:.2g}"
