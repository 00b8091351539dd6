"""Circuit, model and random circuits, in every member of the family."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    for model in values.names("model"):
        means = [values.estimate(model=model, circuit=circuit) for circuit in ("model", "circuit")]
        bounds = [float(values.means(model=model, circuit=circuit)) for circuit in ("roles", "empty")]
        rows.append((model, *means, faithfulness(result, model), *bounds, values.size("prompt")))
    columns = ("model", "F(M) [95 %]", "F(C) [95 %]", "F(C)/F(M) [95 %]", "all at roles", "none", "n")
    title = f"Faithfulness of a circuit of {result.facts['heads']} heads; F is {result.facts['metric']}"
    main = Table(title, columns, tuple(rows))
    return (main, _random_table(result)) if "random" in result.measurements else (main,)


def _random_table(result: Result) -> Table:
    values = measured(result)
    rows: list[tuple[Cell, ...]] = []
    for model in values.names("model"):
        means = random_means(result, model)
        circuit = float(values.means(model=model, circuit="circuit"))
        quantiles = [float(means.quantile(at)) for at in _QUANTILES]
        share = (1 + int((means >= circuit).sum())) / (1 + len(means))
        rows.append((model, *quantiles, circuit, share, len(means)))
    columns = ("model", "5 %", "median", "95 %", "best", "the circuit", "p", "circuits")
    return Table("F of random circuits of the same shape", columns, tuple(rows))


def random_means(result: Result, model: str) -> Tensor:
    """F of every random circuit in one model."""
    return result["random"].at(model=model, metric=result.facts["metric"]).values


def faithfulness(result: Result, model: str) -> Estimate:
    """F(C)/F(M) of one model, with its interval."""
    decimals = 2 if Quirk.ROUNDED_F in result.facts["quirks"] else None
    circuit, whole_model = ({"model": model, "circuit": name} for name in ("circuit", "model"))
    return measured(result).ratio(circuit, whole_model, decimals=decimals)


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    values = measured(result)
    undefined = [
        model
        for model in values.names("model")
        if math.isclose(float(values.means(model=model, circuit="model")), 0, abs_tol=1e-12)
    ]
    return (
        "all at roles: every head live at the circuit's roles, ablated elsewhere; none: the empty circuit",
        "p: share of random circuits, counting this one, that do at least as well",
        "95 % intervals over contexts, paired for ratios",
        *published_notes(result.facts["quirks"]),
        *[f"{model}: F(M) is 0, so there is no ratio" for model in undefined],
    )


def figure(result: Result) -> Figure:
    """F of the model and of the circuit with intervals, and every random circuit as a dot."""
    values, has_random = measured(result), "random" in result.measurements
    models = values.names("model")
    drawn, axes = new_figure(width=1.8 + 1.5 * len(models), height=3.4)
    axis = axes[0, 0]
    for index, model in enumerate(models):
        for shift, circuit, color in ((-0.2, "model", BASE), (0.2, "circuit", ACCENT)):
            bar = values.estimate(model=model, circuit=circuit)
            axis.bar(index + shift, bar.value, 0.38, yerr=error_bars([bar]), color=color, capsize=3)
        if has_random:
            means = random_means(result, model).tolist()
            axis.plot([index + 0.2] * len(means), means, "_", color=DONOR, markersize=14, alpha=0.3)
        top = (index + 0.2, values.estimate(model=model, circuit="circuit").value)
        axis.annotate(f"{faithfulness(result, model).value:.2f}", top, (0, 12), textcoords="offset points")
    axis.set_xticks(range(len(models)), models)
    axis.set_ylabel(f"F: {result.facts['metric']}, 95 % interval")
    handles = [axis.plot([], [], "s", color=BASE)[0], axis.plot([], [], "s", color=ACCENT)[0]]
    labels = ["model", f"circuit ({result.facts['heads']} heads), with F(C)/F(M)"]
    if has_random:
        handles.append(axis.plot([], [], "_", color=DONOR)[0])
        labels.append(f"{result['random'].size('circuit')} random circuits")
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    return drawn
