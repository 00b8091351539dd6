"""Circuit, model and random circuits, in every member of the family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

from torch import Tensor

from entitrack.core.drawing import TESTED, Drawing, Mark, Row, Rows, member_hues, sizes_of
from entitrack.core.quirks import Quirk, published_notes
from entitrack.core.result import Result
from entitrack.core.statistics.controls import rank_p
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.outcomes import measured

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
        rows.append((model, ablation, *quantiles, circuit, rank_p(circuit, means.numpy()), len(means)))
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


def headline(result: Result) -> str:
    """F(C)/F(M) of the first model, under every ablation."""
    first = cases(result)[0][0]
    shares = (f"{kind} {faithfulness(result, model, kind)}" for model, kind in cases(result) if model == first)
    return f"F(C)/F(M) of {first}: {', '.join(shares)}"


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


def claim(result: Result) -> str:
    """F(C)/F(M) in the first model under every ablation, beside random circuits."""
    values = measured(result)
    model, told = values.names("model")[0], []
    for ablation in values.names("ablation"):
        beside = ""
        if "random" in result.measurements:
            means = random_means(result, model, ablation)
            own = float(values.means(model=model, ablation=ablation, circuit="circuit"))
            beside = f" (random circuits have F {float(means.quantile(0.5)):.3f}, p {rank_p(own, means.numpy()):.3f})"
        told.append(f"{ablation} {faithfulness(result, model, ablation)}{beside}")
    return (
        f"Alone, the circuit of {result.facts['heads']} heads does of what {model} does, by what stands for the other"
        f" heads: {'; '.join(told)}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Faithfulness depends on what stands for ablated heads: read all ablations together.",
        "A circuit that suffices need not be the only one, nor the smallest.",
    )


def drawing(result: Result) -> Drawing:
    """A panel an ablation: F of the model and of the circuit with intervals, and every random circuit as a mark."""
    values, facts = measured(result), result.facts
    panels = tuple(
        Rows(
            f"{ablation} ablation",
            f"{facts['metric']} (F)",
            "",
            tuple(row for model in values.names("model") for row in _rows(result, model, ablation)),
            draws="random circuits of its shape",
        )
        for ablation in values.names("ablation")
    )
    title = f"Faithfulness of a circuit of {facts['heads']} heads"
    notes = ("At the right, F(circuit)/F(model). Bars: 95 % intervals over contexts.",)
    return Drawing(title, panels, None, notes, sizes_of(values.prompts))


def _rows(result: Result, model: str, ablation: str) -> Iterator[Row]:
    """The model and the circuit in it; under them, random circuits."""
    values, at = measured(result), {"model": model, "ablation": ablation}
    hue = member_hues(result, values.names("model"))[model]
    whole, circuit = (values.estimate(circuit=name, **at) for name in ("model", "circuit"))
    ratio = faithfulness(result, **at).value
    label = f"circuit of {result.facts['heads']} heads, the others ablated"
    yield Row(model, (Mark(whole, hue, f"{model}, whole"),))
    yield Row("circuit", (Mark(circuit, TESTED, label),), text="no ratio" if math.isnan(ratio) else f"{ratio:.2f}")
    if "random" in result.measurements:
        yield Row("random", (), tuple(random_means(result, **at).tolist()))
