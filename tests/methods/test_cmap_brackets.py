"""What bounds a transplant: the null control, all heads, and everything."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.result import Result
from entitrack.methods.cmap import brackets
from entitrack.methods.cmap.settings import ALL_LAST, ALL_ROLES, EVERYTHING, NULL, Settings
from entitrack.methods.experiment import Experiment
from tests.methods import hand_made
from tests.methods.test_cmap import cmap, in_files

ONE = Group("one", "last", ((0, 1), (2, 2), (2, 3)))
TWO = Group("two", "query_label", ((1, 0),))
FORMS: list[dict[str, Any]] = [{}, {"components": ["mlp_out"]}, {"form": "input"}]


@pytest.fixture
def experiment(golden_experiment: Experiment, tmp_path: Path) -> Experiment:
    return in_files(golden_experiment, tmp_path, base=Circuit((ONE, TWO)))


@pytest.mark.parametrize("form", FORMS, ids=["z", "mlp_out", "input"])
def test_a_recipient_into_itself_is_exactly_itself(experiment: Experiment, form: dict[str, Any]) -> None:
    result = cmap(experiment, Settings(controls=2, control_prompts=None, **form))
    right = result["bracket"]
    assert torch.equal(right.at(model=NULL).values, result["correct"].at(model="base").values)
    for name in ("base", "donor"):
        assert torch.equal(right.at(model=name).values, result["correct"].at(model=name).values)
    assert not result["bracket.changed"].values.any()
    (row,) = [row for row in hand_made.rows(result.tables[-1]) if row[0] == "base into itself (null)"]
    assert row[2] == 0.0
    assert any(note.endswith("0 of 42 answers are another") for note in result.notes)


@pytest.mark.parametrize("form", FORMS, ids=["z", "mlp_out", "input"])
def test_everything_is_the_donor_s_stream_under_the_recipient_s_unembedding(
    experiment: Experiment, form: dict[str, Any]
) -> None:
    """The donor's last layer read with a hook, and the base's own norm and head applied to it."""
    result = cmap(experiment, Settings(controls=2, control_prompts=None, **form))
    batch = experiment.encode(experiment.task.prompts())
    base, donor = (experiment.member(name).envoy._module for name in ("base", "donor"))
    ends: list[Tensor] = []
    layer = donor.model.layers[-1]
    handle = layer.register_forward_hook(lambda _m, _a, out: ends.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        donor(input_ids=batch.tokens, attention_mask=batch.mask)
        handle.remove()
        end = ends[0][torch.arange(len(batch.tokens)), batch.positions["last"]]
        logits = base.lm_head(base.model.norm(end))
    assert torch.equal(result["bracket"].at(model=EVERYTHING).values, logits.argmax(-1) == batch.answers)


def test_a_null_control_that_changes_something_is_told(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another model is read for the recipient, answers change, and the note and the table say so."""
    read = brackets.read_sites

    def wrong(model: Any, anatomy: Any, prompts: Any, sites: Any) -> Any:
        found = read(model, anatomy, prompts, sites)
        return {**found, "values": [torch.randn_like(value) * 9 for value in found["values"]]}

    wrong.__module__ = read.__module__
    monkeypatch.setattr(brackets, "read_sites", wrong)
    result = cmap(experiment, Settings(controls=1, control_prompts=None))
    count = int(result["bracket.changed"].values.sum())
    assert count
    base, null = (result["bracket"].at(model=name).values for name in ("base", NULL))
    assert int((base != null).sum()) > 0, "the row is about the run that is told to be another"
    assert any(note.endswith(f"{count} of 42 answers are another") for note in result.notes)


def test_brackets_are_in_their_order_and_all_heads_are_those_of_the_controls(experiment: Experiment) -> None:
    result = cmap(experiment, Settings(controls=2, control_prompts=21))
    assert result["bracket"].names("model") == ("base", "donor", NULL, ALL_LAST, ALL_ROLES, EVERYTHING)
    for name in (ALL_LAST, ALL_ROLES):
        assert torch.equal(result["bracket"].at(model=name).values, result["control.own"].at(transplant=name).values)
    assert "bracket" not in cmap(experiment, Settings(controls=0)).measurements
    into = cmap(dataclasses.replace(experiment, donor="base"), Settings(recipient="donor", controls=1))
    assert into.tables[-1].rows[0][0] == "recipient into itself (null)"


def test_every_column_says_what_was_measured() -> None:
    on = hand_made.prompts(12)
    few, most, every = ([number < count for number in range(12)] for count in (3, 9, 12))
    moved = {"form": "output", "components": ["z"], "masks": None, "quirks": []}
    facts = {"base": "a", "family_base": "a", "donor": "b", **moved, "heads": {"full circuit": 2}}
    rows = {"base": few, "donor": every, NULL: few, ALL_LAST: most, EVERYTHING: every}
    models = ("base", "donor", "full circuit")
    result: Result = hand_made.laid_out(
        "cmap",
        facts,
        {
            "correct": hand_made.measured([few, every, most], "model", on, model=models),
            "bracket": hand_made.measured(list(rows.values()), "model", on, model=tuple(rows)),
            "bracket.changed": hand_made.measured([False] * 12, "", on),
        },
    )
    _, table = result.tables
    assert table.title == "Null control and brackets, n 12"
    assert table.columns == ("model", "accuracy [95 %]", "minus base [95 %]", "of the gap")
    assert hand_made.rows(table) == [
        ["base into itself (null)", 0.25, 0.0, 0.0],
        [ALL_LAST, 0.75, 0.5, 0.666667],
        [EVERYTHING, 1.0, 0.75, 1.0],
    ]
