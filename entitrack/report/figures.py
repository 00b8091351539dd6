"""One figure a method."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entitrack.methods.cmap import CmapResult
from entitrack.methods.evaluate import EvaluateResult
from entitrack.methods.path_patching import PathPatchingResult
from entitrack.stats import estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACCENT, _BASE, _DONOR = "#4878a8", "#9a9a9a", "#c8783c"


def draw(result: Any, folder: Path) -> Path | None:
    """Draw a result into `figure.png`; None for a method that has no figure."""
    figure = plot(result)
    if figure is None:
        return None
    path = folder / "figure.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def _new(rows: int = 1, columns: int = 1, width: float = 7, height: float = 3.2) -> tuple[Figure, Any]:
    """A figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


@singledispatch
def plot(result: Any) -> Figure | None:
    """The figure of a result."""
    return None


@plot.register
def _(result: CmapResult) -> Figure:
    """Accuracy of base, donor and each transplant, with intervals."""
    figure, axes = _new()
    axis = axes[0, 0]
    names = ["base", "donor", *result.heads]
    found = [estimate(result.correct[name].float(), result.clusters) for name in names]
    values = [entry.value for entry in found]
    errors = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
    colors = [_BASE, _DONOR] + [_ACCENT] * len(result.heads)
    axis.barh(range(len(names)), values, xerr=errors, color=colors, capsize=3)
    labels = [f"{result.base} (base)", f"{result.donor} (donor)", *(f"base + {name}" for name in result.heads)]
    axis.set_yticks(range(len(names)), labels)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("accuracy, 95 % interval")
    axis.set_title(f"CMAP: {result.donor} into {result.base}")
    for index in (0, 1):
        axis.axvline(values[index], color=colors[index], linewidth=1, linestyle="--", zorder=0)
    return figure


@plot.register
def _(result: EvaluateResult) -> Figure:
    """Accuracy against the number of boxes, or against the queried box where there is one number only."""
    figure, axes = _new()
    axis = axes[0, 0]
    boxes = sorted({found.boxes for found in result.answers})
    for model in dict.fromkeys(found.model for found in result.answers):
        own = [found for found in result.answers if found.model == model]
        if len(boxes) > 1:
            points = [(found.boxes, found.accuracy()) for found in own]
        else:
            points = [(query + 1, own[0].accuracy(query)) for query in sorted(own[0].query.unique().tolist())]
        where = [place for place, _ in points]
        values = [entry.value for _, entry in points]
        errors = [[e.value - e.low for _, e in points], [e.high - e.value for _, e in points]]
        axis.errorbar(where, values, yerr=errors, marker="o", capsize=3, label=model)
    axis.set_xlabel("boxes" if len(boxes) > 1 else "position of the queried box")
    axis.set_ylabel("accuracy, 95 % interval")
    axis.set_ylim(0, 1.02)
    axis.legend()
    return figure


@plot.register
def _(result: PathPatchingResult) -> Figure:
    """Score of every head, a panel a stage; the chosen heads are ringed."""
    figure, axes = _new(1, max(1, len(result.stages)), width=3.2 * max(1, len(result.stages)))
    for axis, found in zip(axes[0], result.stages, strict=False):
        limit = max(float(found.scores.abs().max()), 1e-6)
        image = axis.imshow(found.scores.numpy(), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
        for layer, head in found.heads:
            axis.plot(head, layer, "o", markersize=11, markerfacecolor="none", markeredgecolor="black")
        axis.set_title(f"{found.stage.name}\nat {found.stage.role}", fontsize=9)
        axis.set_xlabel("head")
        axis.set_ylabel("layer")
        figure.colorbar(image, ax=axis, shrink=0.8)
    return figure
