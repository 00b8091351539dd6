"""Position, letter and content: pulled apart in the text, counted in what is answered, shown as they were counted."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from entitrack.core.errors import UserError
from entitrack.methods import run_method
from entitrack.methods.activation_patching.settings import Settings as PatchingSettings
from entitrack.methods.binding.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import ZOO
from entitrack.tasks.bindings import Bindings
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.operations import Operations
from entitrack.tasks.protocol import READINGS
from tests.methods import hand_made

FACT = r"(?:[tT]he (?P<o>\w+) is in Box (?P<b>\w)|Box (?P<b2>\w) contains the (?P<o2>\w+)|(?P<b3>\w) = (?P<o3>\w))"


def facts(text: str) -> tuple[list[str], list[str], str]:
    """Letters and contents of a list in order, and the letter that is asked for, by the text alone."""
    told, question = text.rstrip().rsplit(". ", 1)
    found = [re.fullmatch(FACT, fact) for fact in told.split(", ")]
    assert all(found), text
    parts = [fact.groupdict() for fact in found if fact]
    letters = [part["b"] or part["b2"] or part["b3"] for part in parts]
    asked = re.search(r"(?:Box )?(\w)\b", question)
    assert asked
    return letters, [part["o"] or part["o2"] or part["o3"] for part in parts], asked[1]


@pytest.mark.parametrize(
    "task", [Boxes(count=60, boxes=5), Boxes(count=30, boxes=3, phrasing="label_first"), Bindings(count=40)], ids=str
)
def test_every_reading_has_an_answer_of_its_own(task: Boxes | Bindings) -> None:
    for pair in task.apart(0):
        letters, contents, asked = facts(pair.clean.text)
        others, foreign, named = facts(pair.counterfactual.text)
        place = others.index(named)
        assert pair.place == place
        readings = {"position": contents[place], "letter": contents[letters.index(named)], "content": foreign[place]}
        assert pair.readings == readings
        assert len({*readings.values(), contents[letters.index(asked)]}) == 4
        assert len(pair.clean.text.split()) == len(pair.counterfactual.text.split())


def test_stories_are_pulled_apart_too() -> None:
    for pair in Operations(count=40).apart(0):
        words = {*pair.readings.values(), pair.clean.answer}
        assert len(words) == 4
        assert tuple(pair.readings) == READINGS
        assert pair.readings["content"] not in pair.clean.text
        assert all(word in pair.clean.text for word in words - {pair.readings["content"]})


@pytest.mark.parametrize("task", [Boxes(count=4, boxes=2), Bindings(count=4, facts=2)], ids=str)
def test_two_things_are_too_few(task: Boxes | Bindings) -> None:
    with pytest.raises(UserError, match=r"2 things are too few to pull apart; use three or more"):
        task.apart(0)


@pytest.mark.slow
def test_units_do_what_they_must(tiny_experiment: Experiment) -> None:
    """The first layer's stream at the last token is the word `the`; groups do what activation patching does."""
    experiment = dataclasses.replace(tiny_experiment, circuit_name="llama")
    settings = Settings(models=["llama"], force=True, heads_of="llama", layers=[0, 3])
    answered = run_method("binding", experiment, settings)["answered"]
    assert answered.names("unit")[:3] == ("nothing", "layer 0", "layer 3")
    assert answered.at(unit="nothing").values.equal(answered.at(unit="layer 0").values)
    assert (answered.values[:, :, :5].sum(2) == 1).all(), "every answer has one reading"
    own = run_method("evaluate", experiment, _evaluate())["correct"].at(model="llama").values
    assert answered.at(model="llama", unit="nothing", reading="own").values.equal(own)
    patching = PatchingSettings(models=["llama"], desiderata=["box_label_value"], repeats=1)
    patched = run_method("activation_patching", experiment, patching)["correct"]
    for group in ("value_fetcher", "pos_transmitter"):
        letter = answered.at(model="llama", unit=group, reading="letter").values
        assert letter.equal(patched.at(model="llama", group=group, desideratum="box_label_value", repeat=0).values)
    late = {name: float(answered.means(model="llama", unit="layer 3", reading=name)) for name in READINGS}
    assert late["content"] > 3 * max(late["position"], late["letter"]), "in the end the stream has the answer itself"


def _evaluate() -> Any:
    from entitrack.methods.evaluate.settings import Settings as EvaluateSettings

    return EvaluateSettings(models=["llama"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"layers": [9]}, r"^method\.layers\.0: 9 is no layer; available: 0 to 3"),
        ({"layers": [1, 1]}, r"^method\.layers\.1: 1 is there twice"),
        ({"role": "nowhere"}, r"^method\.role: the task has no role 'nowhere'; available: last"),
        ({"heads_of": "no.json"}, r"^method\.heads_of: no file 'no\.json'"),
    ],
)
def test_what_is_not_there_is_named(words: dict[str, Any], message: str, tiny_experiment: Experiment) -> None:
    assert (ZOO / "tiny" / "llama").is_dir()
    with pytest.raises(UserError, match=message):
        run_method("binding", tiny_experiment, Settings(**words))


def result() -> Any:
    """Two models of 12 prompts: the base moves by letter, the donor by position in the first half."""
    prompts = hand_made.prompts(12, {"place": [0] * 6 + [1] * 6})
    yes, no, half = [True] * 12, [False] * 12, [True] * 6 + [False] * 6
    rest = [False] * 6 + [True] * 6
    nothing = [no, no, no, yes, no, no]
    base = [nothing, [no, yes, no, no, no, yes]]
    donor = [nothing, [half, no, rest, no, no, yes]]
    labels = {"model": ("base", "donor"), "unit": ("nothing", "layer 1")}
    readings = ("position", "letter", "content", "own", "other", "any of the three")
    answered = hand_made.measured([base, donor], "model unit reading", prompts, **labels, reading=readings)
    facts = {"base": "base", "role": "last", "layers": ["layer 1"], "heads": {}, "shown": 0.1}
    return hand_made.laid_out("binding", facts, {"answered": answered})


def test_tables_say_what_was_counted() -> None:
    shares, minus, by_place = map(hand_made.rows, result().tables)
    assert all(len(row) == len(table.columns) for table in result().tables for row in table.rows)
    assert shares == [
        ["base", "nothing", 0, 0, 0, 1, 0, 12],
        ["base", "layer 1", 0, 1, 0, 0, 0, 12],
        ["donor", "nothing", 0, 0, 0, 1, 0, 12],
        ["donor", "layer 1", 0.5, 0, 0.5, 0, 0, 12],
    ]
    assert minus == [["donor", "layer 1", 0.5, -1, 0.5]]
    assert by_place == [
        ["base", "layer 1", 1, 0, 1, 0, 6],
        ["base", "layer 1", 2, 0, 1, 0, 6],
        ["donor", "layer 1", 1, 1, 0, 0, 6],
        ["donor", "layer 1", 2, 0, 0, 1, 6],
    ]


def test_the_figure_has_a_curve_a_reading() -> None:
    first, second = hand_made.plots(result())
    assert [curve.label for curve in first.curves] == list(READINGS)
    assert [hand_made.places(curve) for curve in second.curves] == [
        [(0, 0), (1, 0.5)],
        [(0, 0), (1, 0)],
        [(0, 0), (1, 0.5)],
    ]
    assert "in base layer 1 moves it by letter in 1.000" in result().claim()
