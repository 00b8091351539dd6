"""What is left of the circuit against what is left of the model."""

from __future__ import annotations

from itertools import cycle

import torch
from matplotlib.figure import Figure

from entitrack.circuits import is_random
from entitrack.methods.completeness import NOTHING, CompletenessResult
from entitrack.report.figures.canvas import ACCENT, BASE, error_bars, new_figure, plot
from entitrack.stats import estimate


@plot.register
def _(result: CompletenessResult) -> Figure:
    """F(C\\K) against F(M\\K), a point a set: groups with intervals, random sets as dots; and y = x."""
    figure, axes = new_figure(width=6.4, height=4.2)
    axis = axes[0, 0]
    whole, left = result.rest.double().mean(1), result.left.double().mean(1)
    both = torch.cat([whole, left])
    ends = [min(0.0, float(both.min())), max(1e-3, float(both.max()))]
    axis.plot(ends, ends, "--", color=BASE, linewidth=1, label="y = x: complete")
    random = [is_random(name) for name in result.names]
    axis.plot(whole[random], left[random], "o", color=BASE, markersize=4, label="random sets")
    groups = [index for index, is_random in enumerate(random) if not is_random]
    for index, marker in zip(groups, cycle("os^Dv<>P*X"), strict=False):
        across, up = (estimate(values[index], result.clusters) for values in (result.rest, result.left))
        bars = {"xerr": error_bars([across]), "yerr": error_bars([up])}
        label = "whole" if result.names[index] == NOTHING else f"without {result.names[index]}"
        axis.errorbar(across.value, up.value, fmt=marker, color=ACCENT, capsize=2, linewidth=1, label=label, **bars)
    axis.set_xlabel(f"F(M\\K): {result.metric.value}")
    axis.set_ylabel(f"F(C\\K): {result.metric.value}")
    axis.set_title(f"Completeness in {result.model}", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure
