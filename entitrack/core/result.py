"""Results as data: measurements, what they are about, and where they come from. Everything shown is a view of one.

1. A method measures, and gives a `Result` without tables.
2. Its view lays out tables and notes once (`laid_out`); they are part of the result from then on.
3. `save` writes it, `entitrack.load` reads it again; figures, HTML and W&B are drawn from it, with or without a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement
from entitrack.core.parts import Origin
from entitrack.core.plain import plain
from entitrack.core.table import Table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from entitrack.core.circuits import Circuit
    from entitrack.core.comparison import Comparison
    from entitrack.core.drawing import Drawing
    from entitrack.core.masks import Masks


class View(Protocol):
    """The module `view` of a method's folder: how its results are shown."""

    def tables(self, result: Result) -> Sequence[Table]:
        """The result as tables, the main one first."""
        ...

    def headline(self, result: Result) -> str:
        """What it says, in a line: the number to look at first, for the table of a study."""
        ...

    def notes(self, result: Result) -> Sequence[str]:
        """What a reader must know to read them: empty groups, noise floors, how intervals were made."""
        ...

    def claim(self, result: Result) -> str:
        """What was found, in a sentence or two with their numbers, intervals and controls."""
        ...

    def limits(self, result: Result) -> Sequence[str]:
        """What is not to be concluded from it."""
        ...

    def drawing(self, result: Result) -> Drawing | None:
        """The result as a figure's data; None for a method that has none."""
        ...


@dataclass(frozen=True)
class Result:
    """What a method found.

    Attributes:
        method: Name of the method.
        facts: What the measurements are about, as plain values: names of models, sizes of groups, settings that change
            how a number reads.
        measurements: Name -> values with named axes.
        artefacts: Name -> circuit or masks, for other runs to use.
        words: Token id -> its text, of all tokens that were predicted.
        tables: The result as tables, the main one first.
        notes: What a reader must know to read them.
        provenance: What was used: models, circuit, prompts, command, versions, date, cost.
    """

    method: str
    facts: Mapping[str, Any]
    measurements: Mapping[str, Measurement]
    artefacts: Mapping[str, Circuit | Masks] = field(default_factory=dict)
    words: Mapping[int, str] = field(default_factory=dict, repr=False)
    tables: tuple[Table, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Have facts as they are once they have been written and read: plain, with lists for tuples."""
        object.__setattr__(self, "facts", plain(self.facts))

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of that name.

        Raises:
            UserError: There is none.
        """
        if name not in self.measurements:
            raise UserError(name, f"{self.method} measures no such thing", self.measurements)
        return self.measurements[name]

    @property
    def arrays(self) -> dict[str, Tensor]:
        """The values of all measurements."""
        return {name: measurement.values for name, measurement in self.measurements.items()}

    def laid_out(self) -> Result:
        """The result with the tables and notes of its view."""
        view = view_of(self.method)
        origins = [Origin(**told).note for told in self.facts.get("chosen_on", ())]
        notes = (*self.facts.get("forced", ()), *view.notes(self), *origins)
        return replace(self, tables=tuple(view.tables(self)), notes=notes)

    @property
    def headline(self) -> str:
        """What it says, in a line: the number to look at first."""
        return view_of(self.method).headline(self)

    def claim(self) -> str:
        """What was found, in a sentence or two with their numbers, intervals and controls."""
        return view_of(self.method).claim(self)

    def limits(self) -> Sequence[str]:
        """What is not to be concluded from it."""
        return view_of(self.method).limits(self)

    def drawing(self) -> Drawing | None:
        """What the figure shows, as data; None for a method that has none."""
        return view_of(self.method).drawing(self)

    def figure(self) -> Figure | None:
        """The result as a figure with its caption; None for a method that has none."""
        from entitrack.record.figures import figure

        return figure(self)

    def save(self, folder: str | Path) -> Path:
        """Write everything of it into a folder, for `entitrack.load` to read: all of it, or nothing.

        Returns:
            The folder.

        Raises:
            UserError: The folder already holds a result.
            OSError: It cannot be written to; nothing is left of it.
        """
        from entitrack.record.folder import save

        return save(self, Path(folder))

    def compare(self, other: Result) -> Comparison:
        """How another result of the same method differs from this one; see `core.comparison`.

        Raises:
            UserError: It is of another method.
        """
        from entitrack.core.comparison import compare

        return compare(self, other)

    def frame(self, name: str | None = None) -> pandas.DataFrame:
        """A measurement as a data frame, a row a value and its axes; prompts have their text and answer.

        Args:
            name: Name of the measurement; None takes the first.
        """
        return measurement_frame(self[name or next(iter(self.measurements), "frame")], self.words)

    def _repr_html_(self) -> str:
        """Tables and notes, as a notebook shows them."""
        import html

        tables = "".join(table.to_html() for table in self.tables)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<div>{tables}<ul>{notes}</ul></div>"


def measurement_frame(measurement: Measurement, words: Mapping[int, str]) -> pandas.DataFrame:
    """A measurement in long form; see `Result.frame`."""
    import pandas

    names = [measurement.names(axis) for axis in measurement.axes]
    index = pandas.MultiIndex.from_product(names, names=measurement.axes)
    frame = pandas.DataFrame({"value": measurement.values.flatten().numpy()}, index=index).reset_index()
    prompts = measurement.prompts
    if prompts is not None:
        rows = frame[PROMPT].astype(int)
        columns: dict[str, Sequence[Any]] = {"text": prompts.texts, "answer": prompts.answers}
        columns |= {"cluster": prompts.clusters.tolist()}
        columns |= {name: values.tolist() for name, values in prompts.facets.items()}
        for name, values in columns.items():
            frame[name] = [values[row] for row in rows]
    if words and not measurement.values.is_floating_point() and set(frame["value"]) <= set(words):
        frame["word"] = [words[token] for token in frame["value"]]
    return frame


def view_of(method: str) -> View:
    """How a method's results are shown."""
    return import_module(f"entitrack.methods.{method}.view")  # type: ignore[return-value]
