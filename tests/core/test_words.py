"""What is printed and drawn is what was there, letter by letter; what answers cannot be told apart by is refused."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from entitrack.core.drawing import TESTED, Drawing, Mark, Row, Rows
from entitrack.core.errors import UserError, printable
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import FEW_CONTEXTS, Estimate
from entitrack.core.table import Table
from entitrack.methods.desideratum_pairs import check_targets
from entitrack.methods.experiment import Experiment
from entitrack.record import figures, terminal, tracking
from entitrack.record.figures.page import draw
from entitrack.tasks.boxes import parse_sentence
from entitrack.tasks.desiderata import DesideratumPair
from tests.conftest import Launch, about_circuits
from tests.methods import hand_made
from tests.tasks.test_encoding import WORDS, initials, words

HOSTILE = [
    "[/red]",
    "[bold]x",
    "[link=a]",
    ":smile:",
    "$x_",
    "a\\[b]",
    "\x1b[31m",
    "a\nb",
    "\u202eabc",
    "a\u200bb",
    "x" * 70,
]


def printed(table: Table) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(terminal.lay_out(table))
    return stream.getvalue()


@pytest.mark.parametrize("word", HOSTILE)
def test_a_table_prints_every_word_as_it_is(word: str) -> None:
    for table in (Table(word, ("a" * 100,), ()), Table("", (word,), ()), Table("", ("a",), ((word,),))):
        assert printable(word) in printed(table)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_note_is_printed_as_it_is(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(SimpleNamespace(tables=(), notes=(word,)))  # type: ignore[arg-type]
    assert capsys.readouterr().out.strip() == printable(word)


def test_an_interval_is_printed_with_its_brackets() -> None:
    assert ".500 [.400, .600]" in printed(Table("", ("a [95 %]",), ((Estimate(0.5, 0.4, 0.6, 9),),)))
    assert "a [95 %]" in printed(Table("", ("a [95 %]",), ()))


RIGHT = [True, False] * 4


def cmap_result(name: str) -> Result:
    wrong = [not right for right in RIGHT]
    moved = {"form": "output", "components": ["z"], "masks": None, "quirks": []}
    facts = {"base": name, "family_base": name, "donor": name, **moved, "heads": {"full circuit": 2, name: 1}}
    models = ("base", "donor", "full circuit", name)
    correct = hand_made.measured([RIGHT, wrong, RIGHT, wrong], "model", hand_made.prompts(8), model=models)
    return hand_made.laid_out("cmap", facts, {"correct": correct})


def completeness_result(name: str) -> Result:
    sets = [{"name": "nothing", "kind": "nothing", "heads": 0}, {"name": name, "kind": "group", "heads": 1}]
    labels = {"rest_of": ("model", "circuit"), "set": ("nothing", name)}
    correct = hand_made.measured([[RIGHT] * 2] * 2, "rest_of set", hand_made.prompts(8), **labels)
    facts = {"model": name, "metric": "accuracy", "quirks": [], "sets": sets}
    return hand_made.laid_out("completeness", facts, {"correct": correct})


@pytest.mark.parametrize("word", ["$x_", "$x^{", "$\\nope$", "[/red]", "%s", "{x}"])
def test_a_figure_draws_every_word_as_it_is(word: str) -> None:
    """Where it was read as mathematics these would not be drawn at all."""
    assert figures.image(cmap_result(word))
    assert figures.image(completeness_result(word))


@pytest.mark.parametrize("name", ["clusters", "transplant.base", "base.donor", "full circuit x", "correct"])
def test_no_group_takes_the_place_of_another_row(name: str) -> None:
    result = cmap_result(name)
    assert list(result.arrays) == ["correct"]
    assert result["correct"].at(model="base").values.tolist() == RIGHT
    assert result["correct"].at(model=name).values.tolist() != RIGHT


def test_a_target_that_begins_as_another_answer_is_refused() -> None:
    """The clean prompt offers book and key; bread, from elsewhere, would be counted where book was answered."""
    clean = parse_sentence("The book is in Box Q, the key is in Box X. Box X contains the")
    for target, refused in (("book", False), ("bread", True)):
        for tokenizer, alike in ((initials(WORDS), True), (words(WORDS), False)):
            experiment: Any = SimpleNamespace(family=SimpleNamespace(tokenizer=tokenizer))
            if refused and alike:
                with pytest.raises(UserError, match="'book' and 'bread' begin with one token"):
                    check_targets(experiment, [DesideratumPair(clean, clean, target)])
            else:
                check_targets(experiment, [DesideratumPair(clean, clean, target)])


@pytest.mark.parametrize(
    "method",
    """evaluate path_patching stability attribution minimality completeness faithfulness attention_knockout ablation
    positions circuit_curve cmap cmap_order cmap_matrix dcm activation_patching binding""".split(),
)
def test_every_method_that_asks_a_model_asks_whether_answers_can_be_told_apart(
    method: str,
    launch: Launch,
    golden_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(prompts: object, tokenizer: object) -> None:
        raise UserError("here", "they cannot")

    for place in ("experiment", "desideratum_pairs"):
        monkeypatch.setattr(f"entitrack.methods.{place}.check_first_tokens", refuse)
    words = [f"method={method}", "tracking=disabled"]
    assert launch(*words, *about_circuits(golden_overrides, words)) == 2
    assert capsys.readouterr().err == "entitrack: here: they cannot\n"


@pytest.mark.parametrize(
    "method",
    """evaluate path_patching stability minimality faithfulness attention_knockout ablation positions cmap dcm
    cmap_order cmap_matrix circuit_curve activation_patching""".split(),
)
def test_every_method_refuses_prompts_that_are_longer_than_the_model(
    method: str,
    launch: Launch,
    golden_overrides: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("entitrack.methods.experiment.context_length", lambda model: 10)
    words = [f"method={method}", "tracking=disabled"]
    assert launch(*words, *about_circuits(golden_overrides, words)) == 2
    assert "boxes.jsonl, line 1: has 54 tokens, and llama takes 10 at most" in capsys.readouterr().err


def test_a_model_says_how_much_it_takes(golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as long as the model takes is not too long."""
    prompts = golden_experiment.task.prompts()
    config = golden_experiment.base().envoy._module.config
    monkeypatch.setattr(config, "max_position_embeddings", 10_000)
    length = int(golden_experiment.encode(prompts).mask.sum(1).max())
    monkeypatch.setattr(config, "max_position_embeddings", length)
    golden_experiment.encode(prompts)
    monkeypatch.setattr(config, "max_position_embeddings", length - 1)
    with pytest.raises(UserError, match=rf"^prompt \d+: has {length} tokens, and base takes {length - 1} at most"):
        golden_experiment.encode(prompts)


def test_no_model_and_group_join_to_another_ones_row() -> None:
    """Names may have dots; what is joined by dots would be one row for (a, b.c) and (a.b, c)."""
    models, groups = ("a", "a.b", "clusters"), ("nothing", "c", "b.c", "clusters")
    values = [[[[[number == 4 * row + column for number in range(12)]]] for column in range(4)] for row in range(3)]
    labels = {"model": models, "group": groups, "desideratum": ("d",)}
    correct = hand_made.measured(values, "model group desideratum repeat", hand_made.prompts(12), **labels)
    heads = {group: {"d": 1} for group in groups}
    facts: dict[str, Any] = {"component": "z", "masks": None, "quirks": [], "heads": heads}
    result = hand_made.laid_out("activation_patching", facts, {"correct": correct})
    assert list(result.arrays) == ["correct"]
    assert len({row[0] for row in result.tables[0].rows}) == 3 * 4
    for row, model in enumerate(models):
        for column, group in enumerate(groups):
            right = correct.at(model=model, group=group, desideratum="d", repeat=0).values
            assert right.nonzero().flatten().tolist() == [4 * row + column]


def test_an_estimate_without_an_interval_is_printed_and_draws_no_bar() -> None:
    few = Estimate(0.66, math.nan, math.nan, 7, FEW_CONTEXTS)
    table = Table("title", ("a", "b [95 %]"), (("x", few), ("y", Estimate(0.5, 0.25, 1.0, 7))))
    assert ".660 [too few contexts]" in printed(table)
    assert ".660 [too few contexts]" in table.to_html()
    assert tracking.metrics(table) == {"x/b": 0.66, "y/b": 0.5, "y/b_low": 0.25, "y/b_high": 1.0}
    rows = tuple(Row(name, (Mark(value, TESTED),)) for name, value in (("x", few), ("y", Estimate(0.5, 0.25, 1.0, 7))))
    panel: Any = draw(Drawing("title", (Rows("", "share", "", rows),)), "").axes[0]
    bars = [[line.get_segments()[0].tolist() for line in bar.lines[2]] for bar in panel.containers]
    assert bars[1] == [[[0.25, 1], [1.0, 1]]]
    assert all(math.isnan(x) for x, _ in bars[0][0])
