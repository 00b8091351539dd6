"""Circuit, model and random circuits, in every member of the family."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import ACCENT, BASE, DONOR, error_bars, new_figure

_QUANTILES = (0.05, 0.5, 0.95, 1.0)


def tables(result: Result) -> Sequence[Table]:
    """F of circuit and model, their ratio; and how random circuits compare."""
    values = measured(result)
    rows: list[tuple[Cell, ...]] = []
    for model, ablation in cases(result):
        at = {"model": model, "ablation": ablation}
        means = [values.estimate(circuit=circuit, **at) for circuit in ("model", "circuit")]
        bounds = [float(values.means(circuit=circuit, **at)) for circuit in ("roles", "empty")]
        rows.append((model, ablation, *means, faithfulness(result, **at), *bounds, values.size("prompt")))
    columns = ("model", "ablation", "F(M) [95 %]", "F(C) [95 %]", "F(C)/F(M) [95 %]", "all at roles", "none", "n")
    title = f"Faithfulness of a circuit of {result.facts['heads']} heads; F is {result.facts['metric']}"
    main = Table(title, columns, tuple(rows))
    return (main, _random_table(result)) if "random" in result.measurements else (main,)


def cases(result: Result) -> Sequence[tuple[str, str]]:
    """Every model under every ablation."""
    values = measured(result)
    return list(product(values.names("model"), values.names("ablation")))


def _random_table(result: Result) -> Table:
    values = measured(result)
    rows: list[tuple[Cell, ...]] = []
    for model, ablation in cases(result):
        means = random_means(result, model, ablation)
        circuit = float(values.means(model=model, ablation=ablation, circuit="circuit"))
        quantiles = [float(means.quantile(at)) for at in _QUANTILES]
        share = (1 + int((means >= circuit).sum())) / (1 + len(means))
        rows.append((model, ablation, *quantiles, circuit, share, len(means)))
    columns = ("model", "ablation", "5 %", "median", "95 %", "best", "the circuit", "p", "circuits")
    return Table("F of random circuits of the same shape", columns, tuple(rows))


def random_means(result: Result, model: str, ablation: str) -> Tensor:
    """F of every random circuit in one model."""
    return result["random"].at(model=model, ablation=ablation, metric=result.facts["metric"]).values


def faithfulness(result: Result, model: str, ablation: str) -> Estimate:
    """F(C)/F(M) of one model, with its interval."""
    decimals = 2 if Quirk.ROUNDED_F in result.facts["quirks"] else None
    of_circuits = ({"model": model, "ablation": ablation, "circuit": name} for name in ("circuit", "model"))
    circuit, whole_model = of_circuits
    return measured(result).ratio(circuit, whole_model, decimals=decimals)


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    values = measured(result)
    undefined = [
        model
        for model in values.names("model")
        if math.isclose(float(values.means(model=model, ablation=0, circuit="model")), 0, abs_tol=1e-12)
    ]
    return (
        "all at roles: every head live at the circuit's roles, ablated elsewhere; none: the empty circuit",
        "p: share of random circuits, counting this one, that do at least as well",
        "95 % intervals over contexts, paired for ratios",
        *published_notes(result.facts["quirks"]),
        *[f"{model}: F(M) is 0, so there is no ratio" for model in undefined],
    )


def figure(result: Result) -> Figure:
    """A panel an ablation: F of the model and of the circuit with intervals, and every random circuit as a mark."""
    values, has_random = measured(result), "random" in result.measurements
    ablations = values.names("ablation")
    drawn, axes = new_figure(1, len(ablations), width=1.8 + 3.2 * len(ablations), height=3.4)
    for number, (axis, ablation) in enumerate(zip(axes[0], ablations, strict=True)):
        _panel(axis, result, ablation)
        axis.set_title(f"{ablation} ablation", fontsize=9)
        axis.set_ylabel(f"F: {result.facts['metric']}, 95 % interval" if number == 0 else "")
    axis = axes[0, 0]
    handles = [axis.plot([], [], "s", color=BASE)[0], axis.plot([], [], "s", color=ACCENT)[0]]
    labels = ["model", f"circuit ({result.facts['heads']} heads), with F(C)/F(M)"]
    if has_random:
        handles.append(axis.plot([], [], "_", color=DONOR)[0])
        labels.append(f"{result['random'].size('circuit')} random circuits")
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return drawn


def _panel(axis: Axes, result: Result, ablation: str) -> None:
    """F in every model under one ablation; all panels have the scale of all of it."""
    values = measured(result)
    models = values.names("model")
    for index, model in enumerate(models):
        at = {"model": model, "ablation": ablation}
        for shift, circuit, color in ((-0.2, "model", BASE), (0.2, "circuit", ACCENT)):
            bar = values.estimate(circuit=circuit, **at)
            axis.bar(index + shift, bar.value, 0.38, yerr=error_bars([bar]), color=color, capsize=3)
        if "random" in result.measurements:
            means = random_means(result, **at).tolist()
            axis.plot([index + 0.2] * len(means), means, "_", color=DONOR, markersize=14, alpha=0.3)
        top = (index + 0.2, values.estimate(circuit="circuit", **at).value)
        axis.annotate(f"{faithfulness(result, **at).value:.2f}", top, (0, 12), textcoords="offset points")
    ends = values.means()
    axis.set_ylim(min(0.0, 1.2 * float(ends.min())), 1.2 * max(1e-3, float(ends.max())))
    axis.set_xticks(range(len(models)), models)
