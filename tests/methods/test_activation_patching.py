"""Activation patching as a method: what is patched, counted, shown, and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.drawing import ColourScale
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks, read_masks
from entitrack.core.quirks import Quirk
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import estimate
from entitrack.methods import run_method
from entitrack.methods.activation_patching.settings import NOTHING, Settings
from entitrack.methods.desiderata.settings import Settings as ExampleSettings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.boxes.desiderata import DESIDERATA
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made


@pytest.fixture
def experiment(
    golden_experiment: Experiment, golden_task: GoldenTask, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: golden_circuit)
    return dataclasses.replace(golden_experiment, task=dataclasses.replace(golden_task, count=42))


def patch(experiment: Experiment, **settings: Any) -> Result:
    return run_method("activation_patching", experiment, Settings(**{"models": ["base"], **settings}))


def test_masks_choose_what_is_patched(experiment: Experiment, golden_circuit: Circuit, tmp_path: Path) -> None:
    none = Masks({group.name: {"object_value": ()} for group in golden_circuit.groups})
    whole = Masks({group.name: {"object_value": group.heads} for group in golden_circuit.groups})
    patched = {}
    for name, masks in (("none", none), ("whole", whole)):
        path = tmp_path / f"{name}.json"
        masks.write(path)
        assert read_masks(str(path)).heads == masks.heads
        patched[name] = patch(experiment, desiderata=["object_value"], masks=str(path))
    without = patch(experiment, desiderata=["object_value"])
    for group in golden_circuit.groups:
        own, nothing = (patched["none"]["prediction"].at(group=row).values for row in (group.name, NOTHING))
        assert torch.equal(own, nothing)
    for name in ("prediction", "target_logit"):
        assert torch.equal(patched["whole"][name].values, without[name].values)
    assert without.tables[0].rows[0][-1] == 3 * 42
    assert without.facts["masks"] is None
    assert [row[1] for row in patched["none"].tables[1].rows] == [0, 0, 0, 0]
    assert patched["none"].notes[0].startswith(f"moved: z of the heads of the masks in {tmp_path}")


def test_right_is_the_target_of_the_draw(experiment: Experiment) -> None:
    result = patch(experiment, desiderata=["object_value", "positional"], repeats=2, models=["donor", "base"])
    assert result["correct"].names("model") == ("donor", "base")
    assert torch.equal(result["correct"].values, result["prediction"].values == result["target"].values)
    targets = result["target"]
    for rule in targets.names("desideratum"):
        first, second = targets.at(desideratum=rule).values
        assert not torch.equal(first, second)
    assert targets.prompts is not None
    answers = [result.words[token].strip() for token in targets.at(desideratum="positional", repeat=0).values.tolist()]
    shown = run_method("desiderata", experiment, ExampleSettings(desiderata=["positional"], prompt=3))
    assert shown.facts["examples"][0]["target"] == answers[3]
    assert shown.facts["examples"][0]["clean"] == targets.prompts.texts[3]


def test_groups_without_heads_change_nothing(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Circuit((Group("value_fetcher", "last", ()),))
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: empty)
    result = patch(experiment)
    prediction = result["prediction"]
    assert torch.equal(prediction.at(group="value_fetcher").values, prediction.at(group=NOTHING).values)
    assert result["target_logit"].size("group") == 0


def test_published_positions_are_the_clean_prompts_own(experiment: Experiment) -> None:
    """The quirk moves where the structure reader is read, and nothing else."""
    rules: dict[str, Any] = {"desiderata": ["add_seg_start"], "repeats": 1}
    default = patch(experiment, **rules)["target_logit"]
    quirks = frozenset({Quirk.CLEAN_POSITION})
    result = patch(dataclasses.replace(experiment, quirks=quirks), **rules)
    assert any("at the clean prompt's position" in note for note in result.notes)
    published = result["target_logit"]
    for group in default.names("group"):
        same = torch.allclose(default.at(group=group).values, published.at(group=group).values, atol=1e-4)
        assert same == (group != "struct_reader")


def test_published_counterfactuals_are_others_of_the_prompts(experiment: Experiment) -> None:
    rules: dict[str, Any] = {"desiderata": ["positional"], "repeats": 1, "models": ["base"]}
    tokens = patch(dataclasses.replace(experiment, quirks=frozenset({Quirk.OWN_POSITION})), **rules)["target"].values
    pairs = DESIDERATA["positional"].published_pairs(experiment.task.prompts(), experiment.seed)  # type: ignore[attr-defined]
    words = [str(experiment.family.tokenizer.decode([token])).strip() for token in tokens.flatten().tolist()]
    assert words == [pair.target for pair in pairs]


def test_masks_of_another_circuit_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method\.models\.1: 'base' is there twice"):
        patch(experiment, models=["base", "base"])
    with pytest.raises(UserError, match="no file"):
        patch(experiment, masks="nowhere.json")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(UserError, match=r"bad\.json: is not a JSON object"):
        patch(experiment, masks=str(tmp_path / "bad.json"))
    Masks({"value_fetcher": {"object_value": ((0, 5),)}}).write(tmp_path / "other.json")
    with pytest.raises(UserError, match="are not in the circuit's group"):
        patch(experiment, desiderata=["object_value"], masks=str(tmp_path / "other.json"))


CORRECT = {
    ("base", NOTHING): {"position": [[1, 0, 0, 0], [0, 0, 0, 0]], "value": [[0, 0, 0, 0], [0, 0, 0, 0]]},
    ("base", "fetch"): {"position": [[1, 1, 0, 0], [1, 1, 1, 0]], "value": [[1, 1, 1, 1], [1, 1, 1, 0]]},
    ("tuned", NOTHING): {"position": [[0, 0, 0, 0], [0, 0, 1, 1]], "value": [[0, 0, 0, 1], [0, 1, 0, 1]]},
    ("tuned", "fetch"): {"position": [[0, 1, 0, 1], [0, 1, 1, 1]], "value": [[1, 1, 0, 1], [1, 1, 0, 1]]},
}
"""Model and group -> desideratum -> right or wrong by repeat and prompt; each prompt is there three times."""


def small_result() -> Result:
    values = [[list(CORRECT[model, group].values()) for group in (NOTHING, "fetch")] for model in ("base", "tuned")]
    correct = hand_made.measured(
        torch.tensor(values).bool().repeat(1, 1, 1, 1, 3).tolist(),
        "model group desideratum repeat",
        hand_made.prompts(12),
        model=("base", "tuned"),
        group=(NOTHING, "fetch"),
        desideratum=("position", "value"),
    )
    heads = {"fetch": {"position": 3, "value": 2}}
    facts: dict[str, Any] = {"component": "z", "masks": None, "quirks": [], "heads": heads}
    return hand_made.laid_out("activation_patching", facts, {"correct": correct})


def accuracy(model: str, group: str, rule: str) -> Any:
    right = torch.tensor(CORRECT[model, group][rule]).bool().repeat(1, 3)
    return estimate(right.flatten(), torch.arange(12).repeat(2))


def test_tables_say_what_was_measured() -> None:
    result = small_result()
    main, heads = result.tables
    assert main.columns == ("model/group", "position", "value", "n")
    assert main.rows == tuple(
        (f"{model}/{group}", accuracy(model, group, "position"), accuracy(model, group, "value"), 24)
        for model, group in CORRECT
    )
    values = [[0.125, 0.0], [0.625, 0.875], [0.25, 0.375], [0.625, 0.75]]
    assert [row[1:3] for row in hand_made.rows(main)] == values
    assert (heads.columns, heads.rows) == (("group", "position", "value"), (("fetch", 3, 2),))
    assert result.notes[0].startswith("moved: z of all heads of each group, ")
    assert result.notes[2].startswith("2 draws of the counterfactuals")


def test_the_figure_draws_a_panel_a_model() -> None:
    drawing = hand_made.drawing(small_result())
    for panel, model in zip(hand_made.maps(small_result()), ("base", "tuned"), strict=True):
        cells = [[accuracy(model, group, rule) for rule in ("position", "value")] for group in (NOTHING, "fetch")]
        assert panel.values == tuple(tuple(cell.value for cell in row) for row in cells)
        assert (panel.title, panel.columns.entries, panel.rows.entries) == (
            model,
            ("position", "value"),
            (NOTHING, "fetch"),
        )
        cell = cells[1][0]
        ends = [f"{end:.2f}".replace("0.", ".", 1) for end in (cell.value, cell.low, cell.high)]
        assert panel.texts[1][0] == "{}\n[{}, {}]".format(*ends)
    assert drawing.scale == ColourScale("share of targets answered", 0, 1)
