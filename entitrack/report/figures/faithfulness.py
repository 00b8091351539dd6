"""Circuit, model and random circuits, in every member of the family."""

from __future__ import annotations

from matplotlib.figure import Figure

from entitrack.methods.faithfulness import FaithfulnessResult
from entitrack.report.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure, plot
from entitrack.stats import estimate


@plot.register
def _(result: FaithfulnessResult) -> Figure:
    """F of the model and of the circuit with intervals, and every random circuit as a dot."""
    figure, axes = new_figure(width=1.8 + 1.5 * len(result.found), height=3.4)
    axis = axes[0, 0]
    for index, (name, one) in enumerate(result.found.items()):
        for shift, values, color in ((-0.2, one.model, BASE), (0.2, one.circuit, ACCENT)):
            found = estimate(values, result.clusters)
            axis.bar(index + shift, found.value, 0.38, yerr=error_bars([found]), color=color, capsize=3)
        means = one.random.double().mean(1).tolist()
        axis.plot([index + 0.2] * len(means), means, "_", color=DONOR, markersize=14, alpha=0.3)
        share = result.faithfulness(name).value
        axis.annotate(f"{share:.2f}", (index + 0.2, float(one.circuit.mean())), (0, 12), textcoords="offset points")
    axis.set_xticks(range(len(result.found)), list(result.found))
    axis.set_ylabel(f"F: {result.metric.value}, 95 % interval")
    handles = [axis.plot([], [], "s", color=BASE)[0], axis.plot([], [], "s", color=ACCENT)[0]]
    labels = ["model", f"circuit ({result.size} heads), with F(C)/F(M)"]
    if result.n_random:
        handles.append(axis.plot([], [], "_", color=DONOR)[0])
        labels.append(f"{result.n_random} random circuits")
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return figure
