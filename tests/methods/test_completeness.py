"""Completeness: laws."""

from __future__ import annotations

from pathlib import Path

import torch

from entitrack.circuits import Circuit
from entitrack.methods import completeness, faithfulness
from entitrack.methods.experiment import Experiment
from tests.methods.test_faithfulness import with_circuit


def test_run(golden_experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    """Removing nothing is faithfulness; rows are nothing, the groups, and the random sets together."""
    experiment = with_circuit(golden_experiment, golden_circuit, tmp_path)
    settings = completeness.Settings(random_sets=4, mean_count=42, metric="probability")
    result = completeness.run(experiment, settings)
    other = faithfulness.Settings(models=["base"], random_circuits=0, mean_count=42, metric="probability")
    alone = faithfulness.run(experiment, other).found["base"]
    torch.testing.assert_close(result.left[0], alone.circuit, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.rest[0], alone.model, atol=1e-5, rtol=1e-4)
    assert result.names[:5] == ("nothing", *(group.name for group in golden_circuit.groups))
    assert result.sizes[:5] == (0, *(len(group.heads) for group in golden_circuit.groups))
    assert result.left.shape == result.rest.shape == (9, 42)
    assert [len(table.rows) for table in result.tables] == [5, 3]


def test_random_sets_are_of_the_circuit(golden_circuit: Circuit) -> None:
    sets = completeness.random_sets(golden_circuit, 200, 0.5, seed=3)
    assert len(sets) == 200
    sizes = []
    for groups in sets.values():
        for group in groups:
            assert set(group.heads) <= set(golden_circuit.group(group.name).heads)
        sizes.append(sum(len(group.heads) for group in groups))
    assert min(sizes) > 0
    assert abs(sum(sizes) / len(sizes) - golden_circuit.size / 2) < 0.5
    assert sets == completeness.random_sets(golden_circuit, 200, 0.5, seed=3)
