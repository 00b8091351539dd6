"""Minimality: the golden pairs, K by hand, and laws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.circuits import Circuit, Group, read_circuit
from entitrack.methods import head_removal, minimality
from entitrack.methods.ablated import Ablated
from entitrack.methods.ablation import AblationSettings, Compat, Metric
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Model
from tests.conftest import ROLES
from tests.engine.test_ablation import golden_prompts
from tests.methods.test_faithfulness import with_circuit


def golden_trial(
    experiment: Experiment, model: Model, golden: dict[str, Tensor], circuit: Circuit, compat: Compat
) -> head_removal.Trial:
    answers = golden["eval.labels"]
    roles = ("prev_query_label", "query_label", "last")
    units = (golden_prompts(golden),)
    settings = AblationSettings(circuits_per_session=100)
    ablated = Ablated(experiment, model, roles, settings, units, answers, torch.arange(len(answers)) // 7)
    return head_removal.Trial(ablated, circuit, Metric.ACCURACY, compat)


def minimality_circuit(golden_json: dict[str, Any]) -> Circuit:
    listed = golden_json["minimality.circuit"]
    return Circuit(tuple(Group(name, role, tuple((la, he) for la, he in listed[name])) for name, role in ROLES.items()))


@pytest.mark.parametrize("compat", Compat)
def test_pairs_are_golden(
    golden_experiment: Experiment,
    golden_model: Model,
    golden: dict[str, Tensor],
    golden_json: dict[str, Any],
    compat: Compat,
) -> None:
    """All the published pairs; with the fixed rule, those of heads with different indices, unrounded."""
    circuit = minimality_circuit(golden_json)
    tables = golden_trial(golden_experiment, golden_model, golden, circuit, compat).pairs()
    name = "('model.layers.{}.self_attn.o_proj', {})"
    for group in ("value_fetcher", "pos_detector", "struct_reader"):
        heads = circuit.group(group).heads
        over = [(layer, head) for layer, head in golden_json[f"minimality.pairs_over.{group}"]]
        for first in over:
            for second in over:
                published = golden_json[f"minimality.pairs.{group}"][name.format(*first)][name.format(*second)]
                found = float(tables[group][heads.index(first), heads.index(second)])
                if compat is Compat.PAPER:
                    assert found == published
                elif first[1] != second[1]:
                    assert round(found, 2) == published


def test_published_pairs_with_one_index_are_not_removed_together(
    golden_experiment: Experiment, golden_model: Model, golden: dict[str, Tensor], golden_json: dict[str, Any]
) -> None:
    circuit = minimality_circuit(golden_json)
    heads = ((3, 3), (1, 3))
    paper = golden_trial(golden_experiment, golden_model, golden, circuit, Compat.PAPER)
    fixed = golden_trial(golden_experiment, golden_model, golden, circuit, Compat.DEFAULT)
    assert paper._pair(heads, 0, 1) == ((3, 3),)
    assert fixed._pair(heads, 0, 1) == heads


def test_a_head_in_two_groups_at_one_role_is_removed_from_both(
    golden_experiment: Experiment, golden_model: Model, golden: dict[str, Tensor]
) -> None:
    twice = Circuit((Group("one", "last", ((0, 1), (2, 2))), Group("two", "last", ((0, 1),))))
    trial = golden_trial(golden_experiment, golden_model, golden, twice, Compat.DEFAULT)
    for group, head, kept in (("one", (0, 1), (2, 2)), ("two", (0, 1), (2, 2)), ("one", (2, 2), (0, 1))):
        live = trial.without({group: [head]})[2]
        assert not bool(live[head])
        assert bool(live[kept])


def test_removed_heads_by_hand() -> None:
    """F without u, and without u and v = head 0; the gains of u = 1, 2, 3 are .3, .1 and 0."""
    heads = ((0, 0), (0, 1), (1, 2), (2, 3))
    pairs = torch.diag(torch.tensor([0.6, 0.7, 0.5, 0.4], dtype=torch.float64))
    pairs[0, 1] = pairs[1, 0] = 0.4
    pairs[0, 2] = pairs[2, 0] = 0.4
    pairs[0, 3] = pairs[3, 0] = 0.4
    default = Compat.DEFAULT
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, default) == ((0, 1), (1, 2))
    assert head_removal.choose_removed(heads, 0, pairs, 0.25, default) == ((0, 1),)
    assert head_removal.choose_removed(heads, 0, pairs, 0.0, default) == ()
    pairs[0, 1] = pairs[1, 0] = 0
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, default) == ((0, 1), (1, 2))
    assert head_removal.choose_removed(heads, 0, pairs, 1.0, Compat.PAPER) == ((1, 2),)


def test_scores_by_hand() -> None:
    assert head_removal.relative_drop(0.6, 0.5) == pytest.approx(0.2)
    assert head_removal.relative_drop(0.5, 0.5) == 0
    assert head_removal.relative_drop(0.5, 0.0) == math.inf
    assert head_removal.relative_drop(0.0, 0.0) == 0


@pytest.mark.parametrize("compat", ["default", "paper"])
def test_run(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path, compat: str) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = minimality.Settings(mean_count=42, compat=compat, threshold=0.0, metric="accuracy")
    result = minimality.run(experiment, settings)
    assert len(result.scores) == golden_circuit.size == result.size
    kept = {(one.group, one.head) for one in result.scores if one.score >= 0}
    assert {(group.name, head) for group in result.circuit.groups for head in group.heads} == kept
    for one in result.scores:
        assert one.head not in one.removed
        assert len(one.removed) <= math.ceil(0.3 * len(golden_circuit.group(one.group).heads))
    result.circuit.write(tmp_path / "pruned.json")
    assert read_circuit(str(tmp_path / "pruned.json"), "golden") == result.circuit
    assert [len(table.rows) for table in result.tables] == [2, golden_circuit.size]
    everything = minimality.run(experiment, minimality.Settings(mean_count=42, threshold=-100.0))
    assert everything.circuit.groups == golden_circuit.groups
    assert torch.equal(everything.before, everything.after)


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [(0.6, 0.3, 1.0), (0.3, 0.6, -0.5), (4.0, -2.0, 3.0), (-2.0, -4.0, 0.5), (-4.0, -2.0, -1.0), (0.5, 0.0, math.inf)],
)
def test_a_head_that_is_missed_scores_above_zero_whatever_the_sign_of_f(
    before: float, after: float, score: float
) -> None:
    assert head_removal.relative_drop(before, after) == pytest.approx(score)
