"""Minimality: the golden pairs, K by hand, laws, and what is shown."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group, read_circuit
from entitrack.core.drawing import LEFT_OUT, TESTED
from entitrack.core.parts import PARTS
from entitrack.core.quirks import NONE, Quirk, Quirks
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.ablated_model import AblatedModel
from entitrack.methods.ablation_settings import AblationSettings
from entitrack.methods.experiment import Experiment
from entitrack.methods.faithfulness.settings import Settings as FaithfulnessSettings
from entitrack.methods.minimality import head_removal
from entitrack.methods.minimality.settings import Settings
from entitrack.methods.outcomes import measured
from entitrack.models.family import Model
from entitrack.tasks.boxes import Boxes
from tests.conftest import ROLES
from tests.engine.test_ablation import golden_prompts
from tests.methods import hand_made
from tests.methods.test_faithfulness import with_circuit

PAPER = frozenset(Settings.quirks)


def golden_removal(
    experiment: Experiment, model: Model, golden: dict[str, Tensor], circuit: Circuit, quirks: Quirks
) -> head_removal.HeadRemoval:
    answers = golden["eval.labels"]
    roles = ("prev_query_label", "query_label", "last")
    inputs = (golden_prompts(golden),)
    ablated = AblatedModel(experiment, model, roles, AblationSettings(circuits_per_session=100), inputs, answers)
    return head_removal.HeadRemoval(ablated, circuit, "accuracy", quirks)


def minimality_circuit(golden_json: dict[str, Any]) -> Circuit:
    listed = golden_json["minimality.circuit"]
    return Circuit(tuple(Group(name, role, tuple((la, he) for la, he in listed[name])) for name, role in ROLES.items()))


@pytest.mark.parametrize("quirks", [NONE, PAPER], ids=["default", "paper"])
def test_pairs_are_golden(
    golden_experiment: Experiment,
    golden_model: Model,
    golden: dict[str, Tensor],
    golden_json: dict[str, Any],
    quirks: Quirks,
) -> None:
    """All the published pairs; with the fixed rule, those of heads with different indices, unrounded."""
    circuit = minimality_circuit(golden_json)
    tables = golden_removal(golden_experiment, golden_model, golden, circuit, quirks).pairs()
    name = "('model.layers.{}.self_attn.o_proj', {})"
    for group in ("value_fetcher", "pos_detector", "struct_reader"):
        heads = circuit.group(group).heads
        over = [(layer, head) for layer, head in golden_json[f"minimality.pairs_over.{group}"]]
        for first in over:
            for second in over:
                published = golden_json[f"minimality.pairs.{group}"][name.format(*first)][name.format(*second)]
                found = float(tables[group][heads.index(first), heads.index(second)])
                if quirks:
                    assert found == published
                elif first[1] != second[1]:
                    assert round(found, 2) == published


def test_published_pairs_of_one_index_have_an_order_and_none_of_0(
    golden_experiment: Experiment, golden_model: Model, golden: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads of one index: F without the first alone; where that is 0, without the second alone."""
    circuit = Circuit((Group("one", "last", ((0, 1), (2, 1), (3, 2))),))
    removal = golden_removal(golden_experiment, golden_model, golden, circuit, PAPER)
    alone = {(0, 1): 0.3, (2, 1): 0.0, (3, 2): 0.1}

    def answered(self: Any, circuits: Any) -> Tensor:
        gone = [[head for head in alone if not live[2][head]] for live in circuits]
        return torch.tensor([sum(alone[head] for head in heads) for heads in gone], dtype=torch.float64)

    monkeypatch.setattr(head_removal.HeadRemoval, "answers", answered)
    monkeypatch.setattr(head_removal.HeadRemoval, "mean", lambda self, means: means)
    expected = torch.tensor([[0.3, 0.3, 0.4], [0.3, 0.0, 0.1], [0.4, 0.1, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(removal.pairs()["one"], expected)
    own = dataclasses.replace(removal, quirks=PAPER - {Quirk.OTHER_ORDER})
    expected[1, 0] = 0.0
    torch.testing.assert_close(own.pairs()["one"], expected)
    fixed = dataclasses.replace(removal, quirks=NONE)
    expected[0, 1] = expected[1, 0] = 0.3
    torch.testing.assert_close(fixed.pairs()["one"], expected)


def test_published_pairs_with_one_index_are_not_removed_together(
    golden_experiment: Experiment, golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    circuit = minimality_circuit(golden_json)
    heads = ((3, 3), (1, 3))
    paper = golden_removal(golden_experiment, golden_model, golden, circuit, PAPER)
    fixed = golden_removal(golden_experiment, golden_model, golden, circuit, NONE)
    assert paper._pair(heads, 0, 1) == ((3, 3),)
    assert fixed._pair(heads, 0, 1) == heads


def test_a_head_in_two_groups_at_one_role_is_removed_from_both(
    golden_experiment: Experiment, golden_model: Model, golden: dict[str, Tensor]
) -> None:
    twice = Circuit((Group("one", "last", ((0, 1), (2, 2))), Group("two", "last", ((0, 1),))))
    removal = golden_removal(golden_experiment, golden_model, golden, twice, NONE)
    for group, head, kept in (("one", (0, 1), (2, 2)), ("two", (0, 1), (2, 2)), ("one", (2, 2), (0, 1))):
        live = removal.without({group: [head]})[2]
        assert not bool(live[head])
        assert bool(live[kept])


def test_removed_heads_by_hand() -> None:
    """F without u, and without u and v = head 0; the gains of u = 1, 2, 3 are .3, .1 and 0."""
    heads = ((0, 0), (0, 1), (1, 2), (2, 3))
    pairs = torch.diag(torch.tensor([0.6, 0.7, 0.5, 0.4], dtype=torch.float64))
    pairs[0, 1] = pairs[1, 0] = 0.4
    pairs[0, 2] = pairs[2, 0] = 0.4
    pairs[0, 3] = pairs[3, 0] = 0.4
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, NONE) == ((0, 1), (1, 2))
    assert head_removal.choose_removed(heads, 0, pairs, 0.25, NONE) == ((0, 1),)
    assert head_removal.choose_removed(heads, 0, pairs, 0.0, NONE) == ()
    pairs[0, 1] = pairs[1, 0] = 0
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, NONE) == ((0, 1), (1, 2))
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, PAPER) == ((1, 2),)


def test_equal_heads_go_in_the_groups_order_whatever_arithmetic_adds() -> None:
    """Both others gain .2 once gone; 0.3 - 0.1 and 0.5 - 0.3 differ in their last digits."""
    heads = ((0, 0), (0, 1), (1, 2))
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    pairs[1, 1], pairs[0, 1], pairs[2, 2], pairs[0, 2] = 0.3, 0.1, 0.5, 0.3
    assert float(pairs[1, 1] - pairs[0, 1]) < float(pairs[2, 2] - pairs[0, 2])
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, NONE) == ((0, 1), (1, 2))
    pairs[0, 2] = 0.5 - 1e-12
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, NONE) == ((0, 1),)


@pytest.mark.parametrize("quirks", [NONE, PAPER], ids=["default", "paper"])
def test_a_head_that_leaves_nothing_scores_1_or_without_bound(
    golden_experiment: Experiment,
    golden_model: Model,
    golden: dict[str, Tensor],
    quirks: Quirks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    circuit = Circuit((Group("one", "last", ((0, 1), (2, 1))),))
    removal = golden_removal(golden_experiment, golden_model, golden, circuit, quirks)
    before_and_after = torch.tensor([[0.5, 0.3], [0.0, 0.25]], dtype=torch.float64)
    monkeypatch.setattr(head_removal.HeadRemoval, "mean", lambda self, outcomes: before_and_after)
    scores = removal.scores({"one": [(), ()]}).values.tolist()
    assert scores == pytest.approx([math.inf, 0.2] if quirks else [1.0, 1 / 6])


def test_scores_by_hand() -> None:
    assert head_removal.share_lost(0.5, 0.25) == 0.5
    assert head_removal.share_lost(0.25, 0.5) == -0.5
    assert head_removal.share_lost(0.01, 0.0) == 1.0
    assert head_removal.share_lost(0.0, 0.0) == 0.0
    assert head_removal.share_lost(1.0, -2.0) == 1.5
    assert head_removal.share_lost(-2.0, -4.0) == 0.5
    assert head_removal.relative_drop(0.6, 0.5) == pytest.approx(0.2)
    assert head_removal.relative_drop(0.5, 0.5) == 0
    assert head_removal.relative_drop(0.5, 0.0) == math.inf
    assert head_removal.relative_drop(0.0, 0.0) == 0


def minimality(experiment: Experiment, settings: Settings) -> Result:
    return run_method("minimality", experiment, settings)


def pruned_circuit(result: Result) -> Circuit:
    found = result.artefacts["circuit"]
    assert isinstance(found, Circuit)
    return found


@pytest.mark.parametrize("quirks", [NONE, PAPER], ids=["default", "paper"])
def test_run(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path, quirks: Quirks) -> None:
    experiment = with_circuit(dataclasses.replace(golden_experiment, quirks=quirks), golden_circuit, tmp_path)
    result = minimality(experiment, Settings(force=True, mean_count=42, threshold=0.0))
    heads, scores = result.facts["heads"], result["score"].values.tolist()
    assert len(heads) == len(scores) == golden_circuit.size == result.facts["circuit_heads"]
    staying = {(one["group"], tuple(one["head"])) for one, score in zip(heads, scores, strict=True) if score >= 0}
    pruned = pruned_circuit(result)
    assert {(group.name, head) for group in pruned.groups for head in group.heads} == staying
    assert result.facts["pruned_heads"] == pruned.size
    for one in heads:
        assert one["head"] not in one["removed"]
        assert len(one["removed"]) <= math.ceil(0.3 * len(golden_circuit.group(one["group"]).heads))
    pruned.write(tmp_path / "pruned.json")
    assert read_circuit(str(tmp_path / "pruned.json"), "golden") == pruned
    assert [len(table.rows) for table in result.tables] == [2, golden_circuit.size]
    assert hand_made.retold(result).tables == result.tables
    everything = minimality(experiment, Settings(force=True, mean_count=42, threshold=-100.0))
    assert pruned_circuit(everything).groups == golden_circuit.groups
    values = measured(everything)
    assert torch.equal(values.at(circuit="circuit").values, values.at(circuit="pruned").values)


def test_heads_are_chosen_on_search_and_judged_elsewhere(tiny_experiment: Experiment) -> None:
    search, judge = (Boxes(count=42, part=part) for part in PARTS)
    settings = Settings(force=True, mean_count=42, threshold=0.02)
    both = minimality(dataclasses.replace(tiny_experiment, task=judge, search_task=search), settings)
    on_search = minimality(dataclasses.replace(tiny_experiment, task=search), settings)
    on_judge = minimality(dataclasses.replace(tiny_experiment, task=judge), settings)
    assert both["score"].values.tolist() == on_search["score"].values.tolist()
    assert pruned_circuit(both).groups == pruned_circuit(on_search).groups
    assert pruned_circuit(on_judge).groups != pruned_circuit(on_search).groups, "or this could not fail"
    assert [head["removed"] for head in both.facts["heads"]] == [head["removed"] for head in on_search.facts["heads"]]
    whole = [result["correct"].at(circuit="circuit").values for result in (both, on_judge)]
    assert torch.equal(*whole)
    assert any("searched" in note for note in both.laid_out().notes)
    assert not any("searched" in note for note in on_judge.laid_out().notes)


def test_what_is_kept_of_heads_agrees(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    """Scores follow from F by prompt; without a K, F is the circuit's, and the drop is that of the pairs' diagonal."""
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = minimality(experiment, Settings(force=True, mean_count=42, share=0.0, metric="probability"))
    circuit = measured(result).at(circuit="circuit").values
    removal = result["removal.probability"]
    numbers = {group.name: iter(range(len(group.heads))) for group in golden_circuit.groups}
    for number, head in enumerate(result.facts["heads"]):
        assert head["removed"] == []
        assert torch.equal(removal.at(stage="without K", head=number).values, circuit)
        alone = float(removal.means(stage="without K and v", head=number))
        index = next(numbers[head["group"]])
        assert alone == pytest.approx(float(result[f"pairs.{head['group']}"].values[index, index]), abs=1e-6)
        score = float(result["score"].values[number])
        whole = float(circuit.double().mean())
        assert score == pytest.approx((whole - alone) / max(whole, alone))
        ratio = result.tables[1].rows[number][6]
        assert ratio is None or ratio.value == pytest.approx(float(circuit.double().mean()) / alone)  # type: ignore[union-attr]


def test_what_is_recovered_is_counted_from_the_empty_circuit(
    golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    result = minimality(experiment, Settings(force=True, mean_count=42, metric="recovered"))
    settings = FaithfulnessSettings(models=["base"], ablations=["mean"], random_circuits=0, mean_count=42)
    alone = run_method("faithfulness", experiment, settings)
    empty = alone["logit_difference"].at(ablation="mean", model="base", circuit="empty").values
    for prefix in ("", "removal."):
        counted = result[f"{prefix}logit_difference"].values - result[f"{prefix}recovered"].values
        torch.testing.assert_close(counted, empty.expand_as(counted), atol=1e-3, rtol=1e-4)


def test_a_circuit_without_heads_has_no_scores(golden_experiment: Experiment, tmp_path: Path) -> None:
    nothing = Circuit((Group("empty", "last", ()),))
    result = minimality(with_circuit(golden_experiment, nothing, tmp_path), Settings(force=True, ablation="zero"))
    assert [len(table.rows) for table in result.tables] == [2, 0]
    assert result.figure() is not None


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [
        (0.6, 0.3, 1.0),
        (0.3, 0.6, -0.5),
        (4.0, -2.0, 3.0),
        (-2.0, -4.0, 0.5),
        (-4.0, -2.0, -1.0),
        (0.5, 0.0, math.inf),
        (0.0, 0.0, 0.0),
        (-0.5, 0.0, 0.0),
    ],
)
def test_a_head_that_is_missed_scores_above_zero_whatever_the_sign_of_f(
    before: float, after: float, score: float
) -> None:
    assert head_removal.relative_drop(before, after) == pytest.approx(score)


STAGES = ("without K", "without K and v")
HEADS = [
    {"group": "one", "head": [0, 1], "label": "0.1", "removed": [[2, 2], [1, 1]]},
    {"group": "one", "head": [2, 2], "label": "2.2", "removed": []},
    {"group": "two", "head": [0, 1], "label": "0.1", "removed": [[3, 3]]},
]
REMOVAL = [
    [[0.5, 0.7, 0.6, 0.6] * 3, [0.9, 0.9, 0.9, 0.9] * 3, [0.1, 0.1, 0.2, 0.0] * 3],
    [[0.4, 0.4, 0.4, 0.4] * 3, [0.01, 0.01, 0.01, 0.01] * 3, [0.2, 0.3, 0.3, 0.4] * 3],
]
"""Probability on twelve prompts without each head's K, and without the head too."""

CIRCUITS = [[0.9, 0.9, 0.9, 0.9] * 3, [0.7, 0.8, 0.9, 1.0] * 3]
"""Probability of the circuit and of the pruned one."""


def result(quirks: Quirks = NONE) -> Result:
    scores = [0.5, 0.005, -2 / 3] if Quirk.RATIO_SCORE in quirks else [1 / 3, 0.005, -2 / 3]
    on = hand_made.prompts(12)
    facts = {"model": "a", "metric": "probability", "quirks": sorted(quirks), "threshold": 0.01}
    facts |= {"chosen_apart": False}
    made = {
        "probability": hand_made.measured(CIRCUITS, "circuit", on, circuit=("circuit", "pruned")),
        "removal.probability": hand_made.measured(REMOVAL, "stage head", on, stage=STAGES),
        "score": hand_made.measured(scores, "head"),
    }
    return hand_made.laid_out("minimality", {**facts, "circuit_heads": 3, "pruned_heads": 2, "heads": HEADS}, made)


def test_tables_show_what_was_measured() -> None:
    ends, scores = result().tables
    assert ends.title == "Minimality in a; F is probability"
    assert ends.columns == ("", "heads", "F", "change [95 %]", "n")
    assert hand_made.rows(ends) == [["circuit", 3, 0.9, None, 12], ["pruned at 0.01", 2, 0.85, -0.05, 12]]
    head = ("group", "head", "in K", "F(C\\K)", "F(C\\(K+v))", "lost [95 %]", "ratio [95 %]", "score", "stays")
    assert (scores.title, scores.columns) == ("Scores", head)
    assert hand_made.rows(scores) == [
        ["one", "0.1", 2, 0.6, 0.4, 0.2, 1.5, 0.333333, "yes"],
        ["one", "2.2", 0, 0.9, 0.01, 0.89, None, 0.005, "no"],
        ["two", "0.1", 1, 0.1, 0.3, -0.2, 0.333333, -0.666667, "no"],
    ]
    assert "score, which decides: lost, as a share of the larger of both F" in result().notes
    assert any(note.startswith("ratio: ") and note.endswith("may be 0.05 or less") for note in result().notes)
    published = result(PAPER)
    assert [row[7] for row in hand_made.rows(published.tables[1])] == [0.5, 0.005, -0.666667]
    assert "score, which decides: ratio - 1" in published.notes
    assert not any("published" in note for note in result().notes)
    assert any("published" in note for note in result(PAPER).notes)


def test_the_figure_draws_drops_by_group() -> None:
    one, two = hand_made.row_panels(result())
    assert (one.title, two.title, one.names) == ("one", "two", "head (layer.head)")
    assert [row.name for row in one.rows] == ["0.1", "2.2"]
    for panel, drops in ((one, [0.2, 0.89]), (two, [-0.2])):
        assert [hand_made.plain(row.marks[0].value) for row in panel.rows] == pytest.approx(drops, abs=1e-6)
        assert [(line.direction, line.at) for line in panel.lines] == [("up", 0)]
    assert [row.marks[0].label for row in (*one.rows, *two.rows)] == ["stays", "pruned", "pruned"]
    assert [row.marks[0].hue for row in one.rows] == [TESTED, LEFT_OUT]
    assert one.axis == "probability lost without the head"
