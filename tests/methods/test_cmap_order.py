"""The greedy order of CMAP: against brute force with hooks, against CMAP itself, and what is shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import Settings as CmapSettings
from entitrack.methods.cmap_order.greedy import greedy
from entitrack.methods.cmap_order.method import KINDS
from entitrack.methods.cmap_order.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.methods.transplanted import Answers, random_heads
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made
from tests.methods.test_cmap import in_files
from tests.naive.prompts import Prompts
from tests.naive.transplants import HeadsByRole, transplanted_logits

GROUPS = (
    Group("early", "query_label", ((0, 1), (1, 2), (1, 4))),
    Group("late", "last", ((3, 0), (3, 1), (2, 2), (2, 3))),
    Group("middle", "last", ((1, 0), (2, 0), (2, 3), (3, 5))),
    Group("none", "last", ()),
)
NAMES = ["early", "late", "middle"]


@pytest.fixture
def experiment(golden_experiment: Experiment, golden_task: GoldenTask, tmp_path: Path) -> Experiment:
    """One that chooses on the first half of the prompts and judges on the second."""
    prompts = dataclasses.replace(golden_task, count=84).prompts()
    half = len(prompts) // 2

    class Half:
        stages = golden_task.stages
        facets = getattr(golden_task, "facets", {})

        def __init__(self, part: slice) -> None:
            self.part = part

        def prompts(self) -> Any:
            return prompts[self.part]

        def __getattr__(self, name: str) -> Any:
            return getattr(golden_task, name)

    search, task = Half(slice(0, half)), Half(slice(half, None))
    in_half = dataclasses.replace(golden_experiment, task=task, search_task=search)  # type: ignore[arg-type]
    return in_files(in_half, tmp_path, base=Circuit(GROUPS))


def order(experiment: Experiment, **settings: Any) -> Result:
    return run_method("cmap_order", experiment, Settings(**{"controls": 0, **settings}))


def together(groups: list[Group]) -> HeadsByRole:
    heads: dict[str, list[tuple[int, int]]] = {}
    for group in groups:
        heads.setdefault(group.role, []).extend(group.heads)
    return heads


def naive_right(experiment: Experiment, heads: HeadsByRole, flip: bool = False) -> tuple[Tensor, Tensor]:
    """Whether each prompt is answered rightly with the donor's heads, and how probable the right answer is."""
    batch = experiment.encode(experiment.task.prompts())
    models = [experiment.member(name).envoy._module for name in ("base", "donor")]
    recipient, donor = models[::-1] if flip else models
    logits = transplanted_logits(recipient, donor, Prompts(batch.tokens, batch.mask), heads, batch.positions)
    probability = logits.double().softmax(-1).gather(1, batch.answers[:, None])[:, 0]
    return logits.argmax(-1) == batch.answers, probability


def brute_force(experiment: Experiment, units: dict[str, Group], towards: int = 1) -> list[str]:
    """The greedy order by definition."""
    taken: list[str] = []
    while len(taken) < len(units):
        best: tuple[Any, str] | None = None
        for name in units:
            if name in taken:
                continue
            right, probability = naive_right(
                experiment, together([units[one] for one in [*taken, name]]), flip=towards < 0
            )
            worth = (towards * int(right.sum()), towards * round(float(probability.mean()), 5))
            if best is None or worth > best[0]:
                best = (worth, name)
        assert best
        taken.append(best[1])
    return taken


def test_the_order_is_that_of_brute_force_on_the_prompts_to_choose_on(experiment: Experiment) -> None:
    result = order(experiment)
    units = {group.name: group for group in GROUPS if group.heads}
    assert list(result["correct"].names("unit")) == brute_force(experiment.on_search(), units)
    assert result["search.accuracy"].names("candidate") == tuple(NAMES)
    first = result["search.accuracy"].at(unit=0).values
    for name, found in zip(NAMES, first.tolist(), strict=True):
        right, _ = naive_right(experiment.on_search(), together([units[name]]))
        assert found == pytest.approx(float(right.double().mean()))


def test_heads_are_ordered_as_by_brute_force(experiment: Experiment) -> None:
    result = order(experiment, units="heads", groups=["late"])
    late = {f"late {la}.{he}": Group("late", "last", ((la, he),)) for la, he in GROUPS[1].heads}
    assert list(result["correct"].names("unit")) == brute_force(experiment.on_search(), late)
    layers = order(experiment, units="layers", groups=["late"])
    assert set(layers["correct"].names("unit")) == {"late layer 2", "late layer 3"}


def test_a_worse_donor_is_approached_from_above(experiment: Experiment) -> None:
    """What is put back makes the donor as bad as the base, soonest first."""
    flipped = dataclasses.replace(experiment, donor="base")
    result = order(flipped, recipient="donor")
    units = {group.name: group for group in GROUPS if group.heads}
    assert list(result["correct"].names("unit")) == brute_force(experiment.on_search(), units, towards=-1)
    assert result.facts["towards"] == -1


def test_the_chain_is_what_hooks_give_on_the_prompts_to_judge_on(experiment: Experiment) -> None:
    result = order(experiment)
    units, correct = {group.name: group for group in GROUPS}, result["correct"]
    names = correct.names("unit")
    assert correct.names("kind") == KINDS
    for step, name in enumerate(names):
        expected = {
            "added": [units[one] for one in names[: step + 1]],
            "alone": [units[name]],
            "left out": [units[one] for one in names if one != name],
            "whole": [units[one] for one in names],
            "base": [],
        }
        for kind, groups in expected.items():
            right, _ = naive_right(experiment, together(groups))
            assert torch.equal(correct.at(kind=kind, unit=name).values, right), (kind, name)


def test_its_ends_are_the_rows_of_cmap(experiment: Experiment) -> None:
    """The last step is the full circuit, a unit alone its group; base and donor are themselves."""
    result, rows = order(experiment)["correct"], run_method("cmap", experiment, CmapSettings(controls=0))["correct"]
    last = result.names("unit")[-1]
    for kind, model in (("added", "full circuit"), ("whole", "full circuit"), ("base", "base"), ("donor", "donor")):
        assert torch.equal(result.at(kind=kind, unit=last).values, rows.at(model=model).values)
    for name in NAMES:
        assert torch.equal(result.at(kind="alone", unit=name).values, rows.at(model=name).values)


def test_it_is_chosen_on_other_prompts_than_it_is_judged_on(experiment: Experiment) -> None:
    result = order(experiment)
    searched, judged = ({prompt.text for prompt in one.task.prompts()} for one in (experiment.on_search(), experiment))
    assert not searched & judged
    assert set(result["correct"].prompts.texts) == judged  # type: ignore[union-attr]
    assert result.facts["searched"]["prompts"] == len(experiment.on_search().task.prompts())
    assert any(note.startswith("the order was found on") and note.endswith("0 are among them") for note in result.notes)


def test_fewer_steps_are_the_first_ones(experiment: Experiment) -> None:
    every, few = order(experiment), order(experiment, steps=2)
    assert few["correct"].names("unit") == every["correct"].names("unit")[:2]
    for kind in KINDS:
        assert torch.equal(few["correct"].at(kind=kind).values, every["correct"].at(kind=kind).values[:2])
    labels = [row[0] for row in few.tables[0].rows]
    assert labels == [
        "base (base)",
        *(f"+ {name}" for name in few["correct"].names("unit")),
        "all 3 units",
        "donor (donor)",
    ]


def test_the_size_of_batches_does_not_matter(experiment: Experiment) -> None:
    one = order(experiment, controls=3)
    other = order(dataclasses.replace(experiment, batch_size=5, padding="left"), controls=3)
    assert one["correct"] == other["correct"]
    assert one["control.correct"] == other["control.correct"]


def test_random_chains_are_what_hooks_give(experiment: Experiment) -> None:
    result = order(experiment, controls=3, control_prompts=None)
    heads, names = result["control.heads"], result["correct"].names("unit")
    for step, draw in ((0, 0), (1, 2), (2, 1)):
        drawn = heads.at(unit=step, draw=draw)
        listed: Any = {r: list(map(tuple, drawn.at(role=r).values.nonzero().tolist())) for r in heads.names("role")}
        right, _ = naive_right(experiment, listed)
        assert torch.equal(result["control.correct"].at(unit=step, draw=draw).values, right)
    for name in names:
        own = result["control.own"].at(unit=name).values
        assert torch.equal(own, result["correct"].at(kind="added", unit=name).values)


def test_a_donor_equal_to_the_base_adds_nothing(experiment: Experiment) -> None:
    result = order(dataclasses.replace(experiment, donor="twin"), controls=2)
    correct = result["correct"].values
    assert (correct == correct[0, 0]).all()
    assert list(result["correct"].names("unit")) == NAMES, "nothing decides but the units' place"
    assert {row[6] for row in result.tables[2].rows} == {1.0}


def test_random_chains_have_the_shape_and_grow() -> None:
    """Others first; only where a role runs out of them, the chain's own."""
    chain = torch.zeros(3, 2, 2, 4, dtype=torch.bool)
    chain[0, 0, 0, :2] = True
    chain[1:, 0, 1, :3] = True
    chain[1:, 0, 0, :2] = True
    chain[2, 1, 1, 3] = True
    drawn = random_heads(chain, 20, seed=1)
    assert torch.equal(drawn.flatten(3).sum(3), chain.flatten(2).sum(2).expand(20, 3, 2))
    assert (drawn[:, 1:] | ~drawn[:, :-1]).all(), "each step has the heads of the one before"
    assert not (drawn[:, 0] & chain[-1]).any()
    assert ((drawn[:, 1, 0] & chain[-1, 0]).flatten(1).sum(1) == 2).all(), "three others for five heads"
    assert not (drawn[:, 2, 1] & chain[-1, 1]).any()
    assert len(drawn.unique(dim=0)) > 10
    assert torch.equal(drawn, random_heads(chain, 20, seed=1))


def test_a_chain_that_is_drawn_again_is_no_second_one() -> None:
    chain = torch.zeros(1, 1, 1, 6, dtype=torch.bool)
    chain[0, 0, 0, 0] = True
    drawn = random_heads(chain, 200, seed=0)
    assert sorted(heads.flatten().nonzero().item() for heads in drawn) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("towards", "expected"), [(1, [2, 0, 1]), (-1, [1, 0, 2])])
def test_ties_go_to_the_probability_then_to_the_place(towards: int, expected: list[int]) -> None:
    units = torch.eye(3, dtype=torch.bool).view(3, 1, 1, 3)

    def answers(sets: Tensor) -> Answers:
        count = sets.flatten(1)
        probability = (count.double() * torch.tensor([0.2, 0.1, 0.3], dtype=torch.float64)).sum(1)
        return Answers(torch.ones(len(sets), 4, dtype=torch.bool), probability[:, None].expand(-1, 4).float())

    assert greedy(units, answers, 3, towards).order == expected
    flat = greedy(
        units, lambda sets: Answers(torch.ones(len(sets), 4, dtype=torch.bool), torch.zeros(len(sets), 4)), 3, 1
    )
    assert flat.order == [0, 1, 2]
    assert flat.accuracy.isnan().sum(1).tolist() == [0, 1, 2]


def test_what_is_left_out_is_said(experiment: Experiment) -> None:
    notes = order(experiment, units="heads").notes
    assert "middle 2.3 has the heads of late 2.3, and is left out" in notes
    assert "group none has no heads, and is left out" in notes
    with pytest.raises(UserError, match=r"method\.groups: there are no heads to order; available: early, late, middle"):
        order(experiment, groups=["none"])


def made_result() -> Result:
    """Twelve contexts of one prompt."""
    on = hand_made.prompts(12)
    few, half, most, every = ([number < count for number in range(12)] for count in (3, 6, 9, 12))
    kinds = [[few] * 2, [every] * 2, [most] * 2, [half, most], [half, few], [half, half]]
    units = ("one", "two")
    tried: Any = {"unit": units, "candidate": units}
    a, b, c = ([[[number == head for head in range(3)]]] for number in range(3))
    heads = [[a, b, a], [a, b, c]]  # of the first step's sets, one comes twice
    facts = {
        "base": "llama", "family_base": "llama", "donor": "float", "units": "groups", "heads": [2, 3],
        "whole": {"units": 2, "heads": 3}, "towards": 1, "twins": [], "empty": ["void"],
        "searched": {"prompts": 7, "what": "the order", "contexts": 5, "shared": 1, "total": 12},
    }  # fmt: skip
    measurements = {
        "correct": hand_made.measured(kinds, "kind unit", on, kind=KINDS, unit=units),
        "search.accuracy": hand_made.measured([[0.5, 0.4], [float("nan"), 0.75]], "unit candidate", **tried),
        "search.probability": hand_made.measured([[0.3, 0.2], [float("nan"), 0.6]], "unit candidate", **tried),
        "control.own": hand_made.measured([half, most], "unit", on, unit=units),
        "control.correct": hand_made.measured([[few, half, few], [most, every, few]], "unit draw", on, unit=units),
        "control.gain": hand_made.measured([[0.25] * 12, [0.5] * 12], "unit", on, unit=units),
        "control.heads": hand_made.measured(heads, "unit draw role layer head", unit=units),
        "control.shared": hand_made.measured([[0, 1, 2], [1, 1, 1]], "unit draw", unit=units),
    }  # fmt: skip
    return hand_made.laid_out("cmap_order", facts, measurements)


def test_every_column_says_what_was_measured() -> None:
    chain, single, beside, chosen = made_result().tables
    assert chain.columns == ("model", "heads", "accuracy [95 %]", "adds [95 %]", "of the gap")
    assert hand_made.rows(chain) == [
        ["llama (base)", None, 0.25, None, None],
        ["+ one", 2, 0.5, 0.25, 0.333333],
        ["+ two", 3, 0.75, 0.25, 0.666667],
        ["float (donor)", None, 1.0, None, None],
    ]
    assert single.columns == ("unit", "alone: gains [95 %]", "of the gap", "whole without it: loses [95 %]")
    assert hand_made.rows(single) == [["one", 0.25, 0.333333, 0.25], ["two", 0.0, 0.0, 0.25]]
    assert beside.columns == ("model", "accuracy", "median", "5 %", "95 %", "sets", "p", "gain [95 %]", "shared")
    assert hand_made.rows(beside) == [
        ["+ one", 0.5, 0.375, 0.2625, 0.4875, 2, 0.666667, 0.25, 1.0],
        ["+ two", 0.75, 0.75, 0.3, 0.975, 3, 0.75, 0.5, 1.0],
    ]
    assert beside.title == "Beside random heads, 3 different chains, n 12"
    assert chosen.columns == ("taken", "accuracy", "probability", "next best", "its accuracy", "its probability")
    assert hand_made.rows(chosen) == [["one", 0.5, 0.3, "two", 0.4, 0.2], ["two", 0.75, 0.6, None, None, None]]
    assert chosen.title == "How it was chosen, n 7"


def test_the_figure_draws_the_table() -> None:
    result = made_result()
    (panel,) = hand_made.plots(result)
    assert {line.label: (line.direction, line.at) for line in panel.lines} == {
        "llama (base)": ("across", 0.25),
        "float (donor)": ("across", 1.0),
    }
    heights = {curve.label: [entry.y for entry in curve.points] for curve in panel.curves}
    assert heights == {"the order": [0.5, 0.75], "random heads, median": [0.25, 0.75]}
    (band,) = panel.bands
    assert all(low <= middle <= high for low, middle, high in zip(band.low, [0.25, 0.75], band.high, strict=True))
    assert panel.x_names == ("+ one", "+ two")
