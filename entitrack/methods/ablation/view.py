"""F by layer and role, as a table and a map a component."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.drawing import Drawing, HeatMap, Names, even_scale, nested, sizes_of, spoken
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.ablation.settings import RANDOM
from entitrack.methods.outcomes import measured


def tables(result: Result) -> Sequence[Table]:
    """F without a component of one layer at one role: a table a component, a row a layer, a column a role."""
    values, facts = measured(result), result.facts
    intact = measured(result, "intact.").estimate()
    return tuple(
        Table(
            f"{facts['model']} without {component}, {facts['ablation']} ablation; F is {facts['metric']} [95 %], "
            f"n = {values.size('prompt')}",
            ("layer", *values.names("role")),
            (("none", *[intact] * values.size("role")), *_rows(result, component)),
        )
        for component in values.names("component")
    )


def _rows(result: Result, component: str) -> list[tuple[Cell, ...]]:
    values = measured(result)
    return [
        (layer, *(estimate(result, component, layer, role) for role in values.names("role")))
        for layer in values.names("layer")
    ]


def estimate(result: Result, component: str, layer: str, role: str) -> Estimate:
    """F without a component of a layer at a role."""
    return measured(result).estimate(component=component, layer=layer, role=role)


def headline(result: Result) -> str:
    """The component of one layer at one role without which least is left."""
    values = measured(result)
    axes = ("component", "layer", "role")
    places = list(product(*(values.names(axis) for axis in axes)))
    lowest = min(places, key=lambda place: estimate(result, *place).value)
    component, layer, role = lowest
    whole, least = measured(result, "intact.").estimate(), estimate(result, *lowest)
    return f"F {whole} falls to {least} without {component} of layer {layer} at {role}"


def notes(result: Result) -> Sequence[str]:
    """What is ablated, and how intervals are made."""
    values = measured(result)
    control = [f"{RANDOM}: one a prompt, neither the first token nor one of a role"]
    return (
        *(f"{name}: {WITHOUT_HEADS[name]}" for name in values.names("component")),
        "one layer and one position at a time; none: the model as it is",
        *(control if RANDOM in values.names("role") else []),
        "95 % intervals over contexts",
    )


def claim(result: Result) -> str:
    """The place whose ablation costs most, beside a random position."""
    values, facts = measured(result), result.facts
    names = [values.names(axis) for axis in ("component", "layer", "role")]
    places = [where for where in product(*names) if where[2] != RANDOM]
    component, layer, role = min(places, key=lambda place: estimate(result, *place).value)
    least, whole = estimate(result, component, layer, role), measured(result, "intact.").estimate()
    control = f"; at {RANDOM}, {estimate(result, component, layer, RANDOM)}" if RANDOM in names[2] else ""
    return (
        f"{facts['model']} needs {component} of layer {layer} at {spoken(role)} most: without it,"
        f" {facts['metric']} is {least} of {whole}{control}."
    )


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "Where ablation costs nothing, something else may stand in: layers are taken out one at a time.",
        "The worst of many places is picked and judged on the same prompts, so its loss is a little flattered.",
    )


def drawing(result: Result) -> Drawing:
    """What is lost: F of the model minus F without, a panel a component, layers against roles."""
    values, whole = measured(result), measured(result, "intact.").estimate().value
    components, layers, roles = (values.names(axis) for axis in ("component", "layer", "role"))
    lost, facts = whole - values.means(), result.facts
    names = Names("position", tuple(spoken(role) for role in roles))
    panels = tuple(
        HeatMap(
            component,
            Names("layer", layers),
            names,
            nested(lost[number]),
            told=tuple(
                tuple(f"F without: {estimate(result, component, layer, role)}" for role in roles) for layer in layers
            ),
            upward=True,
        )
        for number, component in enumerate(components)
    )
    scale = even_scale(f"{facts['metric']} lost: F of the model minus F without", lost.flatten().tolist(), "high")
    title = f"{facts['ablation'].capitalize()} ablation in {facts['model']}"
    return Drawing(
        title,
        panels,
        scale,
        ("One layer and one position at a time. Red: the answer suffers.",),
        sizes_of(values.prompts),
    )
