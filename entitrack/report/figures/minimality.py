"""How much each head of the circuit matters."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.head_removal import HeadScore
from entitrack.methods.minimality import MinimalityResult
from entitrack.report.figures.canvas import ACCENT, BASE, error_bars, new_figure, plot


@plot.register
def _(result: MinimalityResult) -> Figure:
    """Drop of F when the head goes after K, with intervals, a panel a group; grey heads are pruned."""
    groups: dict[str, list[HeadScore]] = {}
    for one in result.scores:
        groups.setdefault(one.group, []).append(one)
    most = max([len(scores) for scores in groups.values()], default=1)
    shape = {"width": 2.6 * max(1, len(groups)), "height": 1.2 + 0.22 * most}
    figure, axes = new_figure(1, max(1, len(groups)), **shape)
    ends = [end for one in result.scores for drop in [result.drop(one)] for end in (drop.low, drop.high, 0.0)]
    margin = 0.05 * max(max(ends, default=0) - min(ends, default=0), 1e-3)
    for axis, (name, scores) in zip(axes[0], groups.items(), strict=False):
        drops = [result.drop(one) for one in scores]
        colors = [ACCENT if one.score >= result.threshold else BASE for one in scores]
        axis.barh(range(len(scores)), [drop.value for drop in drops], xerr=error_bars(drops), color=colors, capsize=2)
        labels = [f"{one.head[0]}.{one.head[1]}" for one in scores]
        axis.set_yticks(range(len(scores)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.axvline(0, color="black", linewidth=0.5)
        axis.set_xlim(min(ends) - margin, max(ends) + margin)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(f"drop of {result.metric.value}", fontsize=8)
    return figure
