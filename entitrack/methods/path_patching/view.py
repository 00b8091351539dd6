"""A circuit, and the scores it was chosen by, as tables and a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from entitrack.core.result import Result
from entitrack.core.table import Cell, Table
from entitrack.methods.path_patching.settings import HALVES
from entitrack.record.figures.canvas import new_figure

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
    stages = tuple(_stage_row(result, name, stage) for name, stage in result.facts["stages"].items())
    stage_columns = ("stage", "scored", "chosen", "noise", "found again", "largest piece", "from naive")
    return (Table(title, columns, tuple(rows)), Table("Stages", stage_columns, stages))


def _stage_row(result: Result, name: str, stage: dict[str, Any]) -> tuple[Cell, ...]:
    scored = int((~result["score"].at(stage=name).values.isnan()).sum())
    verified, found = stage["verified"], result["found_again"].at(stage=name)
    again = [found.number(layer=layer, head=head) for layer, head in stage["heads"]]
    return (
        name,
        scored,
        len(stage["heads"]),
        f"{result['noise'].number(stage=name):.1e}",
        _share(fmean(again)) if again else "",
        f"{stage['peak_bytes'] / 2**20:.0f} MiB",
        f"{verified['difference']:.1e} ({verified['heads']} heads)" if verified else "",
    )


def _share(share: float) -> str:
    """A share, or nothing where it is not a number."""
    return "" if math.isnan(share) else f"{share:.2f}"


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
        "q: false discovery rate among a stage's heads with no greater q (Benjamini-Hochberg over all scored)",
        f"found again: share of {HALVES} random halves of the contexts in which the head is chosen too, after the same"
        " receivers; of a stage, the mean over its heads",
        *empty,
        *skipped,
    )


def figure(result: Result) -> Figure:
    """Score of every head, a panel a stage; the chosen heads are ringed."""
    stages = result.facts["stages"]
    drawn, axes = new_figure(1, len(stages), width=3.2 * len(stages))
    for axis, (name, stage) in zip(axes[0], stages.items(), strict=True):
        scores = result["score"].at(stage=name).values
        limit = float(scores.nan_to_num().abs().max()) or 1.0
        image = axis.imshow(scores.numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for layer, head in stage["heads"]:
            axis.plot(head, layer, "o", markersize=11, markerfacecolor="none", markeredgecolor="black")
        axis.set_title(f"{name}\nat {stage['role']}", fontsize=9)
        axis.set_xlabel("head")
        axis.set_ylabel("layer")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        drawn.colorbar(image, ax=axis, shrink=0.8)
    return drawn
