"""The mixture of position, letter and content: by model and unit, beside the base's, and by position in the list."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from entitrack.core.drawing import Curve, Drawing, Plot, other_hue, point, sizes_of
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import estimate
from entitrack.core.table import Cell, Table
from entitrack.methods.activation_patching.settings import NOTHING
from entitrack.methods.binding.settings import MOVED, OTHER, OWN, PLACE
from entitrack.tasks.protocol import LETTER, POSITION, READINGS


def tables(result: Result) -> Sequence[Table]:
    """Shares of answers; what a donor has more of than the base; the mixture of the three by position."""
    answered, role = result["answered"], result.facts["role"]
    models, units, count = answered.names("model"), answered.names("unit"), answered.size("prompt")
    rows: list[tuple[Cell, ...]] = [
        (
            model,
            unit,
            *(answered.estimate(model=model, unit=unit, reading=name) for name in (*READINGS, OWN, OTHER)),
            count,
        )
        for model in models
        for unit in units
    ]
    columns = ("model", "patched", *(f"{name} [95 %]" for name in (*READINGS, OWN, OTHER)), "n")
    found = [
        Table(f"What is answered: the stream at {role} before each layer, or a group's heads", columns, tuple(rows))
    ]
    base = result.facts["base"]
    donors = [model for model in models if model != base]
    if base in models and donors:
        found.append(Table(f"Minus {base}", ("model", "patched", *columns[2:5]), tuple(_minus(result, donors))))
    by_place = tuple(_by_place(result))
    if by_place:
        heads = ("model", "patched", "place asked for", *(f"{name} of the three [95 %]" for name in READINGS), "moved")
        found.append(Table("The mixture by position in the list", heads, by_place))
    return found


def _minus(result: Result, donors: Sequence[str]) -> list[tuple[Cell, ...]]:
    """What each donor answers more often than the base, on the same prompts."""
    answered, base = result["answered"], result.facts["base"]
    return [
        (
            model,
            unit,
            *(
                answered.difference(
                    {"model": model, "unit": unit, "reading": name}, {"model": base, "unit": unit, "reading": name}
                )
                for name in READINGS
            ),
        )
        for model in donors
        for unit in answered.names("unit")[1:]
    ]


def _by_place(result: Result) -> list[tuple[Cell, ...]]:
    """The three as shares of the answers that moved, by the place that is asked for, of units that move pointers."""
    answered, rows = result["answered"], list[tuple[Cell, ...]]()
    assert answered.prompts is not None
    places = answered.prompts.facets[PLACE]
    for model in answered.names("model"):
        for unit in answered.names("unit"):
            at = {"model": model, "unit": unit}
            pointers = sum(float(answered.means(reading=name, **at)) for name in (POSITION, LETTER))
            moved = answered.at(reading=MOVED, **at).values
            for place in places.unique().tolist() if pointers >= max(result.facts["shown"], 1e-9) else ():
                here = moved & (places == place)
                shares = [_share(answered.at(reading=name, **at).values, here, answered.clusters) for name in READINGS]
                rows.append((model, unit, place + 1, *shares, int(here.sum())))
    return rows


def _share(values: Tensor, here: Tensor, clusters: Tensor) -> Cell:
    """The share of some prompts; None where there are none."""
    return estimate(values[here], clusters[here]) if here.any() else None


def headline(result: Result) -> str:
    """What a patch before which layer moves the answer to most often, in the first model."""
    answered = result["answered"]
    model, *_ = answered.names("model")
    cases = {
        (unit, name): answered.estimate(model=model, unit=unit, reading=name)
        for unit in answered.names("unit")
        for name in READINGS
    }
    unit, name = max(cases, key=lambda case: cases[case].value)
    return f"{model}: the answer goes by {name} in {cases[unit, name]}, patched: {unit}"


def notes(result: Result) -> Sequence[str]:
    """How to read the tables."""
    return (
        "the counterfactual asks for another place of the list (position), by the letter of a third entry (letter),"
        " about a content that is not in the clean prompt (content); own: the clean answer; other: none of these",
        "nothing: no patch, the null control; by position: shares of the answers that moved to one of the three (moved:"
        f" how many), of units that move {result.facts['shown']:g} of all or more to position or letter",
        "95 % intervals over contexts, paired between models",
    )


def claim(result: Result) -> str:
    """What patching moves the answer to most often, in every model, and the null control."""
    answered = result["answered"]
    said = []
    for model in answered.names("model"):
        unit, name, share = max(
            (
                (unit, name, answered.estimate(model=model, unit=unit, reading=name))
                for unit in answered.names("unit")
                for name in (POSITION, LETTER)
            ),
            key=lambda case: case[2].value,
        )
        said.append(f"in {model} {unit} moves it by {name} in {share}")
    null = max(float(answered.means(model=model, unit=NOTHING, reading=MOVED)) for model in answered.names("model"))
    return f"Of what points to the answer, {'; '.join(said)}. With nothing patched, at most {null:.3f} answer so."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return (
        "The unit that moves most is named; its interval does not cover the choice.",
        "A share of one reading in a patched unit is what the unit suffices for, not all that the model uses.",
    )


def drawing(result: Result) -> Drawing:
    """A panel a model: shares of the three over layers, and of groups beside them."""
    answered = result["answered"]
    units = answered.names("unit")
    panels = tuple(
        Plot(model, "patched", "share of answers", _curves(result, model), x_names=units, y_limits=(0, 1.02))
        for model in answered.names("model")
    )
    title = f"What is answered with a counterfactual's stream at {result.facts['role']}, or a group's heads"
    notes = ("'nothing': no patch. Bars: 95 % intervals over contexts.",)
    return Drawing(title, panels, None, notes, sizes_of(answered.prompts))


def _curves(result: Result, model: str) -> tuple[Curve, ...]:
    """The three in a model, unit by unit."""
    answered = result["answered"]
    units = answered.names("unit")
    return tuple(
        Curve(
            name,
            other_hue(number),
            tuple(
                point(place, answered.estimate(model=model, unit=unit, reading=name))
                for place, unit in enumerate(units)
            ),
        )
        for number, name in enumerate(READINGS)
    )
