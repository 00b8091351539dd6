"""A circuit as a picture: a column a group, heads by layer, and who sends through what of whom.

1. Columns go from the groups that act first to those that are read by the logits; under each stands its role.
2. A head stands at its layer; the stronger its score in path patching, the deeper its colour.
3. Arcs over the columns are the stages of the search: from a group to the receivers, through their q, k or v.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entitrack.core.circuits import Circuit, Group
from entitrack.core.drawing import even_scale, spoken
from entitrack.core.result import Result
from entitrack.models.anatomy import Head
from entitrack.record.report.marks import colours
from entitrack.record.report.markup import Markup, tag

_HEAD, _LAYER, _GAP, _CHARACTER = 35.0, 28.0, 20.0, 6.2
_LOGITS = "logits"


@dataclass(frozen=True)
class Column:
    """A group's place.

    Attributes:
        group: The group.
        left: Its left edge.
        width: Its width.
    """

    group: Group
    left: float
    width: float

    @property
    def middle(self) -> float:
        """Where its arcs begin and end."""
        return self.left + self.width / 2


@dataclass(frozen=True)
class Arc:
    """From a group to what receives of it.

    Attributes:
        start: The middle of the group.
        stop: The middle of the receivers, or of the logits.
        through: What of the receivers is reached, in words.
    """

    start: float
    stop: float
    through: str

    @property
    def height(self) -> float:
        """How far it goes up, with its words: the wider, the higher."""
        return 30 + 0.1 * abs(self.stop - self.start)

    def drawn(self, top: float) -> list[Markup]:
        """Its elements, over groups whose upper edge is at `top`."""
        start, stop = self.start + 6, self.stop - 6
        peak = top - 4 - (self.height - 16) / 0.75
        path = f"M{start:.1f} {top - 4:.1f}C{start:.1f} {peak:.1f} {stop:.1f} {peak:.1f} {stop:.1f} {top - 6:.1f}"
        words = tag("text", self.through, x=(start + stop) / 2, y=top - self.height + 10, class_="tick middle halo")
        return [tag("path", d=path, class_="arc", marker_end="url(#arrow)"), words]


def draw_circuit(circuit: Circuit, scored: Result | None = None) -> tuple[list[Markup], float, float]:
    """A circuit's elements, width and height.

    Args:
        circuit: The circuit.
        scored: The path patching that scored its heads; None for a circuit without scores.
    """
    layers, columns = _layers(circuit), _columns(circuit)
    logits = columns[-1].left + columns[-1].width + _GAP
    arcs = _arcs(circuit, columns, logits + 32)
    top = 14 + max((arc.height for arc in arcs), default=0)
    bottom = top + _LAYER * len(layers)
    rows = {layer: top + _LAYER * (len(layers) - number - 0.5) for number, layer in enumerate(layers)}
    middle = (top + bottom) / 2
    drawn = [tag("text", str(layer), x=30.0, y=y + 4, class_="tick end") for layer, y in rows.items()]
    drawn.append(
        tag("text", "layer", x=10.0, y=middle, class_="label middle", transform=f"rotate(-90 10 {middle:.1f})")
    )
    for column in columns:
        drawn += _drawn_column(column, rows, (top, bottom), scored)
    drawn.append(tag("rect", x=logits, y=top, width=64, height=bottom - top, rx=10, class_="group"))
    drawn.append(tag("text", _LOGITS, x=logits + 32, y=middle + 4, class_="name middle"))
    return [*drawn, *(part for arc in arcs for part in arc.drawn(top))], logits + 72, bottom + 44


def _layers(circuit: Circuit) -> list[int]:
    """The layers that are drawn: all up to the last of a small model, else those that heads are in."""
    there = sorted({layer for group in circuit.groups for layer, _ in group.heads})
    return list(range(max(there, default=0) + 1)) if max(there, default=0) < 12 else there


def _columns(circuit: Circuit) -> list[Column]:
    """Groups from left to right, those that act first at the left."""
    columns, left = [], 42.0
    for group in reversed(circuit.groups):
        side_by_side = max((sum(at == layer for at, _ in group.heads) for layer, _ in group.heads), default=1)
        words = _CHARACTER * max(len(group.name), len(group.role) + 3) + 10
        width = max(_HEAD * side_by_side + 10, words)
        columns.append(Column(group, left, width))
        left += width + _GAP
    return columns


def _drawn_column(
    column: Column, rows: Mapping[int, float], ends: tuple[float, float], scored: Result | None
) -> list[Markup]:
    group, middle, (top, bottom) = column.group, column.middle, ends
    drawn = [
        tag("rect", x=column.left, y=top, width=column.width, height=bottom - top, rx=10, class_="group"),
        tag("text", spoken(group.name), x=middle, y=bottom + 18, class_="name middle"),
        tag("text", f"at {spoken(group.role)}", x=middle, y=bottom + 34, class_="tick middle"),
    ]
    if not group.heads:
        drawn.append(tag("text", "empty", x=middle, y=(top + bottom) / 2 + 4, class_="tick middle"))
    for layer, y in rows.items():
        heads = [head for head in group.heads if head[0] == layer]
        for place, head in enumerate(heads):
            drawn += _drawn_head(group, head, (middle + _HEAD * (place - (len(heads) - 1) / 2), y), scored)
    return drawn


def _drawn_head(group: Group, head: Head, where: tuple[float, float], scored: Result | None) -> list[Markup]:
    (x, y), name = where, f"{head[0]}.{head[1]}"
    told = f"{spoken(group.name)} {name}, rank {group.heads.index(head) + 1} of {len(group.heads)}"
    score = _score(scored, group, head)
    paper, dark, deep = "#dfe6ee", "#39424e", False
    if score is not None:
        value, error, q_value, strongest = score
        paper, dark, deep = colours(even_scale("", [strongest], "low", root=True), value)
        told += f"; score {value:.3g}, standard error {error:.2g}, q {q_value:.2g}"
    style = f"--paper:{paper};--dark:{dark}"
    return [
        tag("rect", x=x - 16, y=y - 10, width=32, height=20, rx=6, class_="head cell", style=style, data_tip=told),
        tag("text", name, x=x, y=y + 4, class_=f"value middle{' deep' * deep}"),
    ]


def _score(scored: Result | None, group: Group, head: Head) -> tuple[float, float, float, float] | None:
    """Score, standard error and q of a head, and the strongest score of all; None where it has none."""
    if scored is None or group.name not in scored["score"].names("stage"):
        return None
    where: dict[str, str | int] = {"stage": group.name, "layer": head[0], "head": head[1]}
    value, error, q_value = (scored[name].number(**where) for name in ("score", "standard_error", "q_value"))
    strongest = float(scored["score"].values.nan_to_num().abs().max())
    return None if math.isnan(value) else (value, error, q_value, strongest)


def stages_of(circuit: Circuit) -> list[Mapping[str, Any]]:
    """The stages of the search that found a circuit, as it tells them; nothing where it does not."""
    settings = circuit.found_on.get("settings")
    stages = settings.get("stages") if isinstance(settings, Mapping) else None
    there = stages if isinstance(stages, list) else []
    return [stage for stage in there if isinstance(stage, Mapping) and {"name", "component"} <= set(stage)]


def _arcs(circuit: Circuit, columns: Sequence[Column], logits: float) -> list[Arc]:
    """An arc a stage."""
    places = {column.group.name: column.middle for column in columns}
    arcs = []
    for stage in stages_of(circuit):
        receivers = stage.get("receivers")
        start, stop = places.get(str(stage["name"])), places.get(str(receivers)) if receivers else logits
        if start is not None and stop is not None:
            through = "output" if stage["component"] == _LOGITS else f"through {stage['component']}"
            arcs.append(Arc(start, stop, through))
    return arcs
