"""Accuracy by layer, as a table and as curves."""

from __future__ import annotations

from collections.abc import Sequence

from entitrack.core.drawing import Curve, Drawing, Plot, member_hues, point, sizes_of
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import Estimate
from entitrack.core.table import Cell, Table


def tables(result: Result) -> Sequence[Table]:
    """A row a layer, a column a model."""
    correct = result["correct"]
    models = correct.names("model")
    by_layer = zip(*(curve(result, model) for model in models), strict=True)
    rows: list[tuple[Cell, ...]] = [(f"before layer {layer}", *cells) for layer, cells in enumerate(by_layer)]
    return (Table("Logit lens: answers right [95 %]", ("stream", *models), tuple(rows)),)


def curve(result: Result, model: str) -> list[Estimate]:
    """Accuracy by layer."""
    correct = result["correct"]
    return [correct.estimate(model=model, layer=layer) for layer in range(correct.size("layer"))]


def notes(result: Result) -> Sequence[str]:
    """How to read the table."""
    return ("the stream at the last token, through the final norm and the unembedding",)


def claim(result: Result) -> str:
    """What the last layer's stream says of the first model."""
    model = result["correct"].names("model")[0]
    return f"In front of the last layer the stream of {model} is right in {curve(result, model)[-1]}."


def limits(result: Result) -> Sequence[str]:
    """What is not to be concluded."""
    return ("A stream that the unembedding cannot read may know the answer all the same.",)


def drawing(result: Result) -> Drawing:
    """Accuracy against the layer, a curve a model."""
    correct = result["correct"]
    hues = member_hues(result, correct.names("model"))
    curves = tuple(
        Curve(model, hue, tuple(point(layer, entry) for layer, entry in enumerate(curve(result, model))))
        for model, hue in hues.items()
    )
    plot = Plot("", "stream in front of layer", "answers right", curves, y_limits=(0, 1.02))
    return Drawing("Logit lens", (plot,), None, ("Bars: 95 % intervals.",), sizes_of(correct.prompts))
