"""Where the counterfactuals of activation patching are read."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from entitrack.core.circuits import Circuit
from entitrack.core.quirks import Quirk
from entitrack.methods.activation_patching.units import make_units
from entitrack.methods.experiment import Experiment
from entitrack.tasks.desiderata import find_desiderata
from entitrack.tasks.protocol import PREV_QUERY_LABEL


@pytest.mark.parametrize("published", [False, True])
def test_structure_is_read_at_the_counterfactuals_own_place_unless_published(
    golden_experiment: Experiment, golden_circuit: Circuit, published: bool
) -> None:
    quirks = frozenset({Quirk.CLEAN_POSITION} if published else set())
    experiment = dataclasses.replace(golden_experiment, quirks=quirks, batch_size=10)
    (rule,) = find_desiderata(experiment.task, ["positional"])
    pairs = experiment.desideratum_pairs(rule)
    units = make_units(experiment, {rule.name: golden_circuit}, [(rule.name, pairs)])
    assert [number for unit in units for number in range(len(pairs))[unit.rows]] == list(range(len(pairs)))
    for (encoded,) in (unit.encoded for unit in units):
        clean, source = (batch.positions for batch in (encoded.clean, encoded.source))
        read = encoded.source_position(PREV_QUERY_LABEL, "here")
        assert torch.equal(read, (clean if published else source)[PREV_QUERY_LABEL])
        assert not torch.equal(clean[PREV_QUERY_LABEL], source[PREV_QUERY_LABEL])
        for role in ("last", "query_label"):
            assert torch.equal(encoded.source_position(role, "here"), source[role])
