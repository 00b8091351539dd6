"""CMAP beside random heads: what is drawn, and what is shown of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.measurement import PROMPT, Measurement, PromptSet, stacked
from entitrack.core.result import Result
from entitrack.methods.cmap.controls import KINDS, SAME_LAYERS, SAME_ROLE, draw
from entitrack.methods.cmap.settings import ALL_LAST, ALL_ROLES, Settings
from entitrack.methods.cmap.transplants import Transplant
from entitrack.methods.experiment import Experiment
from entitrack.methods.transplanted import heads_at
from tests.methods import hand_made
from tests.methods.test_cmap import cmap, in_files

SHAPE = (4, 6)
ONE = Group("one", "last", ((0, 1), (2, 2), (2, 3)))
TWO = Group("two", "query_label", ((1, 0),))
NONE = Group("none", "last", ())
CROWD = Group("crowd", "last", tuple((layer, head) for layer in range(4) for head in range(4)))
ROLES = ["last", "query_label"]


def transplants(*groups: Group) -> list[Transplant]:
    return [Transplant("all", groups, "z"), *(Transplant(group.name, [group], "z") for group in groups)]


def test_random_sets_have_the_group_s_shape_and_none_of_its_heads() -> None:
    drawn = {one.name: one for one in draw(transplants(ONE, TWO, NONE), ROLES, SHAPE, 50, seed=1)}
    assert list(drawn) == ["all", "one", "two", ALL_LAST, ALL_ROLES]
    for name, groups in (("all", [ONE, TWO]), ("one", [ONE]), ("two", [TWO])):
        own = torch.stack([heads_at(role, groups, SHAPE) for role in ROLES])
        assert torch.equal(drawn[name].own, own)
        for kind, sets in zip(KINDS, drawn[name].drawn, strict=True):
            assert sets is not None
            assert torch.equal(sets.flatten(2).sum(2), own.flatten(1).sum(1).expand(len(sets), 2))
            assert not (sets & own).any()
            layers = own.any(2)
            assert (sets.any(3) & ~layers).any() == (kind == SAME_ROLE)
            assert len(sets.unique(dim=0)) > 3
    assert drawn[ALL_LAST].own[0].all()
    assert not drawn[ALL_LAST].own[1].any()
    assert drawn[ALL_ROLES].own.all()
    assert drawn[ALL_LAST].drawn == drawn[ALL_ROLES].drawn == (None, None)


def test_draws_are_a_function_of_the_seed() -> None:
    first, again, other = (draw(transplants(ONE), ["last"], SHAPE, 9, seed)[0].drawn[0] for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_set_is_no_second_witness_and_few_others_give_few_sets() -> None:
    (_, two, *_) = draw(transplants(TWO), ["query_label"], SHAPE, 200, seed=0)
    assert [None if sets is None else len(sets) for sets in two.drawn] == [23, 5], "every other head, each once"
    (_, one, *_) = draw(transplants(ONE), ["last"], SHAPE, 60, seed=0)
    for sets in one.drawn:
        assert sets is not None
        assert len(sets.unique(dim=0)) == len(sets) == 60
    left = Group("left", "last", ((0, 0), (0, 1), (0, 2), (0, 3)))
    (_, few, *_) = draw(transplants(left), ["last"], SHAPE, 200, seed=0)
    assert few.drawn[1] is None, "two others of that layer are no four"
    (_, pair, *_) = draw(transplants(Group("pair", "last", left.heads[:3])), ["last"], SHAPE, 200, seed=0)
    assert pair.drawn[1] is not None
    assert len(pair.drawn[1]) == 1, "of three others there is one set of three"


def test_no_sets_where_too_few_other_heads_are() -> None:
    (_, crowd, *_) = draw(transplants(CROWD), ["last"], SHAPE, 5, seed=0)
    assert crowd.drawn == (None, None)
    assert draw(transplants(NONE), [], SHAPE, 5, seed=0) == []


@pytest.fixture
def experiment(golden_experiment: Experiment, tmp_path: Path) -> Experiment:
    return in_files(golden_experiment, tmp_path, base=Circuit((ONE, TWO, NONE)))


def test_what_is_measured_is_what_transplants_give(experiment: Experiment) -> None:
    """The groups' own rows are those of the main table; a random set is what a circuit of its heads gives."""
    result = cmap(experiment, Settings(controls=3, control_prompts=None))
    for name in ("full circuit", "one", "two"):
        own = result["control.own"].at(transplant=name).values
        assert torch.equal(own, result["correct"].at(model=name).values)
    heads = result["control.heads"].at(transplant="full circuit", kind=SAME_LAYERS, draw=1)
    listed = {role: tuple(map(tuple, heads.at(role=role).values.nonzero().tolist())) for role in ROLES}
    circuit = Circuit(tuple(Group(role, role, listed[role]) for role in ROLES))  # type: ignore[arg-type]
    circuit.write(Path(str(experiment.circuit_name)))
    by_hand = cmap(experiment, Settings(controls=0))
    drawn = result["control.correct"].at(transplant="full circuit", kind=SAME_LAYERS, draw=1).values
    assert torch.equal(drawn, by_hand["correct"].at(model="full circuit").values)
    assert "control.own" not in by_hand.measurements


def test_a_donor_equal_to_the_base_gains_nothing_and_nor_do_random_heads(experiment: Experiment) -> None:
    result = cmap(dataclasses.replace(experiment, donor="twin"), Settings(controls=4, control_prompts=21))
    base = result["correct"].at(model="base").values[:21]
    assert (result["control.own"].values == base).all()
    for name in ("full circuit", "one", "two"):
        assert (result["control.correct"].at(transplant=name).values == base).all()
        assert not result["control.gain"].at(transplant=name).values.any()
    assert result["control.own"].size("prompt") == 21
    assert {row[7] for row in result.tables[1].rows if row[3] is not None} == {1.0}
    assert [row[4] for row in result.tables[0].rows] == [None] * 6


def test_controls_are_of_z_alone(experiment: Experiment) -> None:
    result = cmap(experiment, Settings(components=["mlp_out"], controls=2))
    assert "control.own" not in result.measurements
    result = cmap(experiment, Settings(components=["mlp_out", "z"], controls=2))
    assert result["control.own"].names("transplant") == ("full circuit", "one", "two", ALL_LAST, ALL_ROLES)


def test_no_group_takes_a_bracket_s_name(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing may be called 'all heads at last'"):
        cmap(in_files(experiment, tmp_path, base=Circuit((Group(ALL_LAST, "last", ((0, 0),)),))), Settings())


def made_result() -> Result:
    """Twelve contexts of four prompts; the group answers three, its random sets one, two and three of them."""
    count = 12
    prompts = PromptSet(("a", "b", "c", "d") * count, ("w", "x", "y", "z") * count, torch.arange(count * 4) // 4)
    rows = {"base": [1, 0, 0, 0] * count, "donor": [1, 1, 1, 1] * count, "fetch": [1, 1, 1, 0] * count}
    own = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.bool).repeat(1, count)
    sets = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool).repeat(1, count)
    correct = torch.zeros(2, 2, 3, 4 * count, dtype=torch.bool)
    correct[0, 0] = sets
    labels = {"transplant": ("fetch", ALL_LAST), "kind": KINDS}
    measured: dict[str, tuple[Tensor, tuple[str, ...]]] = {
        "control.own": (own, ("transplant", PROMPT)),
        "control.correct": (correct, ("transplant", "kind", "draw", PROMPT)),
        "control.gain": (own[:, None].double() - correct.double().mean(2), ("transplant", "kind", PROMPT)),
    }
    measurements = {
        name: Measurement(values, axes, {axis: labels[axis] for axis in axes if axis in labels}, prompts)
        for name, (values, axes) in measured.items()
    }
    measurements["control.drawn"] = Measurement(torch.tensor([[3, 0], [0, 0]]), ("transplant", "kind"), labels)
    measurements["correct"] = stacked({name: torch.tensor(row) for name, row in rows.items()}, "model", prompts)
    moved = {"form": "output", "components": ["z"], "masks": None, "quirks": []}
    return Result(
        "cmap", {"base": "a", "family_base": "a", "donor": "b", **moved, "heads": {"fetch": 2}}, measurements
    ).laid_out()


def test_every_column_of_the_controls_says_what_was_measured() -> None:
    main, controls = made_result().tables
    assert controls.title == "Beside random heads, up to 3 different sets of each kind, n 48"
    assert controls.columns[2:] == ("accuracy", "median", "5 %", "95 %", "sets", "p", "gain [95 %]")
    assert hand_made.rows(controls) == [
        ["fetch", SAME_ROLE, 0.75, 0.5, 0.275, 0.725, 3, 0.5, 0.25],
    ]
    assert main.columns[4] == "of the gap"
    assert [row[4] for row in hand_made.rows(main)] == [None, None, 0.666667]


def test_notes_say_how_to_read_them() -> None:
    notes = made_result().notes
    assert any(note.startswith("p: share of random sets") for note in notes)
    assert any(note.startswith("of the gap:") for note in notes)
