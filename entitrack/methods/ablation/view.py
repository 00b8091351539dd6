"""F by layer and role, as a table and a map a component."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.ablation.settings import RANDOM
from entitrack.methods.outcomes import measured
from entitrack.record.figures.canvas import new_figure


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


def figure(result: Result) -> Figure:
    """What is lost: F of the model minus F without, a panel a component, layers against roles."""
    values, whole = measured(result), measured(result, "intact.").estimate().value
    components, layers, roles = (values.names(axis) for axis in ("component", "layer", "role"))
    width = 1.8 + max(1.8, 0.7 * len(roles)) * len(components)
    drawn, axes = new_figure(1, len(components), width=width, height=2.2 + 0.25 * len(layers))
    lost = whole - values.means()
    most = max(1e-3, float(lost.abs().max()))
    for number, (axis, component) in enumerate(zip(axes[0], components, strict=True)):
        shown = lost[number].tolist()
        image = axis.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", origin="lower")
        axis.set_title(component, fontsize=9)
        axis.set_xticks(range(len(roles)), [role.replace("_", " ") for role in roles], rotation=45, ha="right")
        step = max(1, len(layers) // 12)
        axis.set_yticks(range(0, len(layers), step), layers[::step])
        axis.set_ylabel("layer" if number == 0 else "")
    drawn.colorbar(image, ax=axes, shrink=0.8, label=f"lost {result.facts['metric']}")
    drawn.suptitle(f"{result.facts['ablation'].capitalize()} ablation in {result.facts['model']}", fontsize=10)
    return drawn
