"""Draws of counterfactuals that DCM trains one mask each on are about the same clean prompts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from entitrack.core.circuits import Circuit
from entitrack.core.errors import UserError
from entitrack.methods import run_method
from entitrack.methods.dcm.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.desiderata import Desideratum, DesideratumPair


def test_a_desideratum_with_other_clean_prompts_in_every_draw_is_refused(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Experiment.desideratum_pairs

    def turned(self: Experiment, rule: Desideratum, draw: int = 0) -> Sequence[DesideratumPair]:
        return drawn(self, rule, 0)[:: -1 if draw else 1]

    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: golden_circuit)
    monkeypatch.setattr(Experiment, "desideratum_pairs", turned)
    with pytest.raises(UserError, match=r"^method\.draws: desideratum 'positional' gives other clean prompts in every"):
        run_method("dcm", golden_experiment, Settings(force=True, desiderata=["positional"], draws=2))
