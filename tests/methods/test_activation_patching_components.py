"""Activation patching of what has no heads: as plain hooks have it, and laws."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.activation_patching.settings import NOTHING, Settings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.boxes.desiderata import DESIDERATA
from entitrack.tasks.protocol import DesideratumPair
from tests.naive import components, layouts
from tests.naive.prompts import Prompts

EARLY, LATE = Group("early", "prev_query_label", ((1, 2), (1, 4))), Group("late", "last", ((3, 0),))
RULE = "object_value"


@pytest.fixture
def experiment(golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    circuit = Circuit((EARLY, LATE, Group("nobody", "last", ())))
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: circuit)
    return golden_experiment


def patch(experiment: Experiment, **settings: Any) -> Result:
    given = {"models": ["base", "donor"], "desiderata": [RULE], "repeats": 2, **settings}
    return run_method("activation_patching", experiment, Settings(**given))


@pytest.mark.parametrize("component", WITHOUT_HEADS)
def test_a_component_moves_as_naively(experiment: Experiment, component: str) -> None:
    """What one layer has at the group's role of the counterfactual, put into the clean prompt by hooks."""
    result = patch(experiment, component=component)
    layout = layouts.layout_of(experiment.base().envoy._module)
    for repeat in range(2):
        pairs = experiment.desideratum_pairs(DESIDERATA[RULE], repeat)
        clean, source = (
            experiment.encode(side) for side in zip(*((p.clean, p.counterfactual) for p in pairs), strict=True)
        )
        prompts, others = (Prompts(batch.tokens, batch.mask) for batch in (clean, source))
        assert not torch.equal(clean.positions[EARLY.role], source.positions[EARLY.role])
        targets = result["target"].at(desideratum=RULE, repeat=repeat).values
        for model in ("base", "donor"):
            module = experiment.member(model).envoy._module
            for group, layer in ((EARLY, 1), (LATE, 3)):
                values = components.read_component(
                    module, layout, others, component, layer, source.positions[group.role]
                )
                where = (component, layer, clean.positions[group.role], values, clean.positions["last"])
                logits = components.component_patched_logits(module, layout, prompts, *where)
                at = {"model": model, "group": group.name, "desideratum": RULE, "repeat": repeat}
                assert torch.equal(result["prediction"].at(**at).values, logits.argmax(-1))
                expected = logits.gather(1, targets[:, None])[:, 0]
                torch.testing.assert_close(result["target_logit"].at(**at).values, expected, atol=1e-4, rtol=1e-4)
    assert result.tables[0].title == f"Activation patching of {component}: targets answered"
    assert result.tables[1].title == "Heads whose layers are patched"
    assert f", {WITHOUT_HEADS[component]}, at the group's role" in result.notes[0]


def test_rows_in_pieces_are_the_rows(experiment: Experiment) -> None:
    whole, pieces = (patch(dataclasses.replace(experiment, gib=gib), component="mlp_out") for gib in (None, 1e-9))
    assert torch.equal(whole["prediction"].values, pieces["prediction"].values)
    torch.testing.assert_close(whole["target_logit"].values, pieces["target_logit"].values, atol=1e-4, rtol=1e-4)


def test_the_clean_prompt_itself_and_no_heads_change_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def itself(self: Experiment, rule: Any, draw: int = 0) -> list[DesideratumPair]:
        return [DesideratumPair(prompt, prompt, prompt.answer) for prompt in self.task.prompts()]

    predictions = patch(experiment, component="resid_mid")["prediction"]
    assert torch.equal(predictions.at(group="nobody").values, predictions.at(group=NOTHING).values)
    assert not torch.equal(predictions.at(group="late").values, predictions.at(group=NOTHING).values)
    monkeypatch.setattr(Experiment, "desideratum_pairs", itself)
    for component in WITHOUT_HEADS:
        predictions = patch(experiment, component=component, models=["base"])["prediction"]
        for group in ("early", "late"):
            assert torch.equal(predictions.at(group=group).values, predictions.at(group=NOTHING).values)


def test_one_head_of_a_layer_stands_for_the_layer(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    both = patch(experiment, component="attn_out", models=["base"])
    circuit = Circuit((dataclasses.replace(EARLY, heads=((1, 0),)),))
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: circuit)
    one = patch(experiment, component="attn_out", models=["base"])
    assert torch.equal(one["target_logit"].at(group="early").values, both["target_logit"].at(group="early").values)


def test_masks_are_refused_with_what_has_no_heads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method\.masks: masks choose heads, and mlp_out has none; .*component=z"):
        Settings(component="mlp_out", masks=str(tmp_path / "masks.json"))
    with pytest.raises(UserError, match=r"method\.component: unknown component 'q'; available: z, resid_pre, attn_out"):
        Settings(component="q")
