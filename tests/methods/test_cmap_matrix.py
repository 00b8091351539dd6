"""CMAP between all pairs: against CMAP itself and hooks, laws, and what is shown."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import ALL_ROLES
from entitrack.methods.cmap.settings import Settings as CmapSettings
from entitrack.methods.cmap_matrix.settings import CIRCUIT, Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Model
from tests.methods import hand_made
from tests.methods.test_cmap import in_files
from tests.naive.prompts import Prompts
from tests.naive.transplants import transplanted_logits

GROUPS = (
    Group("early", "query_label", ((0, 1), (1, 2))),
    Group("late", "last", ((3, 0), (3, 1), (2, 2), (2, 3))),
    Group("none", "last", ()),
)
MEMBERS = ("base", "donor", "twin")


@pytest.fixture
def experiment(golden_experiment: Experiment, tmp_path: Path) -> Experiment:
    return in_files(dataclasses.replace(golden_experiment, donor=None), tmp_path, base=Circuit(GROUPS))


def matrix(experiment: Experiment, **settings: Any) -> Result:
    return run_method("cmap_matrix", experiment, Settings(**{"controls": 0, **settings}))


def test_every_entry_is_what_cmap_gives(experiment: Experiment) -> None:
    correct = matrix(experiment)["correct"]
    assert correct.names("donor") == correct.names("recipient") == MEMBERS
    for donor in MEMBERS:
        for recipient in MEMBERS:
            one = dataclasses.replace(experiment, donor=donor)
            rows = run_method("cmap", one, CmapSettings(controls=0, recipient=recipient))["correct"]
            pair = {"donor": donor, "recipient": recipient}
            for what, model in (("recipient", "base"), ("donor", "donor"), (CIRCUIT, "full circuit")):
                assert torch.equal(correct.at(what=what, **pair).values, rows.at(model=model).values), pair


def test_an_entry_is_what_hooks_give(experiment: Experiment) -> None:
    result = matrix(experiment, controls=2, control_prompts=None)
    batch = experiment.encode(experiment.task.prompts())
    prompts = Prompts(batch.tokens, batch.mask)
    models = {name: experiment.family.load(name).envoy._module for name in MEMBERS}
    every = tuple((layer, head) for layer in range(4) for head in range(6))
    drawn = result["control.heads"].at(draw=1)
    listed: Any = {
        role: list(map(tuple, drawn.at(role=role).values.nonzero().tolist())) for role in drawn.names("role")
    }
    for donor, recipient in (("donor", "base"), ("base", "donor")):
        pair, own = {"donor": donor, "recipient": recipient}, result["control.own"]
        for heads, found in (
            ({group.role: group.heads for group in GROUPS if group.heads}, result["correct"].at(what=CIRCUIT, **pair)),
            (dict.fromkeys(("last", "query_label"), every), own.at(set=ALL_ROLES, **pair)),
            (listed, result["control.correct"].at(draw=1, **pair)),
        ):
            logits = transplanted_logits(models[recipient], models[donor], prompts, heads, batch.positions)
            assert torch.equal(found.values, logits.argmax(-1) == batch.answers)


def test_a_member_into_itself_gains_exactly_nothing(experiment: Experiment) -> None:
    result = matrix(experiment, controls=3, control_prompts=21)
    correct = result["correct"]
    for name in MEMBERS:
        pair = {"donor": name, "recipient": name}
        own = correct.at(what="recipient", **pair).values
        assert torch.equal(correct.at(what=CIRCUIT, **pair).values, own)
        assert (result["control.own"].at(**pair).values == own[:21]).all()
        assert (result["control.correct"].at(**pair).values == own[:21]).all()
    rows = {row[0]: row for row in hand_made.rows(result.tables[0])}
    assert [rows[f"{name} -> itself"][2:6:3] for name in MEMBERS] == [[0.0, 1.0]] * 3
    assert [rows[f"{name} -> itself"][3] for name in MEMBERS] == [None] * 3
    assert rows["twin -> base"][2] == 0.0, "nor does another one of the same weights"


def test_members_and_groups_may_be_chosen(experiment: Experiment) -> None:
    result = matrix(experiment, members=["donor", "base"], groups=["late", "none"])
    assert result["correct"].names("donor") == ("donor", "base")
    assert result.facts["heads"] == 4
    assert [row[0] for row in result.tables[0].rows] == [
        "donor -> itself", "donor -> base", "base -> donor", "base -> itself",
    ]  # fmt: skip
    one = dataclasses.replace(experiment, donor="donor")
    rows = run_method("cmap", one, CmapSettings(controls=0))["correct"]
    entry = result["correct"].at(what=CIRCUIT, donor="donor", recipient="base").values
    assert torch.equal(entry, rows.at(model="late").values)
    with pytest.raises(UserError, match=r"method\.groups: there are no heads to move; available: early, late"):
        matrix(experiment, groups=["none"])
    with pytest.raises(UserError, match=r"method\.members\.0"):
        matrix(experiment, members=["nope"])


def test_every_member_is_read_once(experiment: Experiment) -> None:
    """A session a batch and member to read, and one a batch and pair to put in."""
    matrix(experiment)
    batches = len(experiment.encoded(experiment.task.prompts()))
    assert experiment.runner.cost.units == batches * (3 + 9)


def test_the_size_of_batches_does_not_matter(experiment: Experiment) -> None:
    one = matrix(experiment, controls=2)
    other = matrix(dataclasses.replace(experiment, batch_size=5, padding="left"), controls=2)
    for name in ("correct", "control.own", "control.correct"):
        assert one[name] == other[name]


def test_pairs_that_may_not_exchange_are_named_and_the_others_run(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of other heads meets none; one of other norms itself alone."""
    import entitrack.models.pairs as pairs

    traits = pairs._traits
    monkeypatch.setattr(
        pairs, "_traits", lambda model: {**traits(model), **({"norms are": "odd"} if model.name == "donor" else {})}
    )
    load = type(experiment.family).load

    def smaller(self: Any, name: str, place: str = "donor") -> Model:
        model = load(self, name, place)
        return dataclasses.replace(model, anatomy={**model.anatomy, "n_heads": 3}) if name == "twin" else model

    monkeypatch.setattr(type(experiment.family), "load", smaller)
    result = matrix(experiment, controls=2)
    tried = result["tried"].values
    assert tried.tolist() == [[True, False, False], [False, True, False], [False, False, False]]
    assert not result["correct"].at(what=CIRCUIT, donor="donor", recipient="base").values.any()
    (table,) = result.tables
    assert table.columns[-1] == "refused"
    rows = {row[0]: row for row in table.rows}
    assert "norms are" in str(rows["donor -> base"][-1])
    assert rows["donor -> base"][1:-1] == (None,) * 6
    assert rows["twin -> itself"][-1] == "'twin' has 4 layers of 3 heads, 'base' 4 of 6"
    assert rows["donor -> itself"][-1] == ""
    (panel,) = hand_made.maps(result)
    assert sum(bool(text) for texts in panel.texts for text in texts) == 2
    assert sum(math.isnan(value) for values in panel.values for value in values) == 7
    assert "Hatched: a pair that is refused." in hand_made.drawing(result).notes


def made_result() -> Result:
    on, names = hand_made.prompts(12), ("llama", "float")
    few, half, most, every = ([number < count for number in range(12)] for count in (3, 6, 9, 12))
    values = [[[few, every], [few, every]], [[few, few], [every, every]], [[few, half], [most, every]]]
    labels: Any = {"donor": names, "recipient": names}
    own = [values[2], [[few, few], [every, every]]]
    drawn = [[[few, every], [half, every]], [[few, few], [every, every]], [[few, few], [half, every]]]
    return hand_made.laid_out(
        "cmap_matrix",
        {"base": "llama", "groups": ["one"], "heads": 4, "obstacles": []},
        {
            "correct": hand_made.measured(
                values, "what donor recipient", on, what=("recipient", "donor", CIRCUIT), **labels
            ),
            "tried": hand_made.measured([[True, True], [True, True]], "donor recipient", **labels),
            "control.own": hand_made.measured(own, "set donor recipient", on, set=(CIRCUIT, ALL_ROLES), **labels),
            "control.correct": hand_made.measured(drawn, "draw donor recipient", on, **labels),
            "control.shared": hand_made.measured([1, 2, 3], "draw"),
        },
    )


def test_every_column_says_what_was_measured() -> None:
    """A donor that is worse has its p from below."""
    result = made_result()
    (table,) = result.tables
    assert table.columns == (
        "donor -> recipient", "accuracy [95 %]", "gain [95 %]", "of the gap", "random heads", "p", "all heads",
    )  # fmt: skip
    assert hand_made.rows(table) == [
        ["llama -> itself", 0.25, 0.0, None, 0.25, 1.0, 0.25],
        ["llama -> float", 0.5, -0.5, 0.666667, 0.25, 0.75, 0.25],
        ["float -> llama", 0.75, 0.5, 0.666667, 0.5, 0.5, 1.0],
        ["float -> itself", 1.0, 0.0, None, 1.0, 1.0, 1.0],
    ]
    assert any("the median of 3 different random sets, n 12" in note and "2.0 of 4" in note for note in result.notes)


def test_the_figure_is_the_map_of_gains() -> None:
    (panel,) = hand_made.maps(made_result())
    assert panel.values == ((0.0, -0.5), (0.5, 0.0))
    scale = hand_made.drawing(made_result()).scale
    assert scale is not None
    assert (scale.low, scale.high, scale.worse) == (-0.5, 0.5, "low")
    assert panel.texts == (("+0.00", "-0.50"), ("+0.50", "+0.00"))
    assert (panel.columns.label, panel.rows.label) == ("recipient", "donor")
