"""Mask training as a method: what it splits, keeps, shows, and refuses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.drawing import in_cell
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks
from entitrack.core.quirks import NONE, Quirk
from entitrack.core.result import Result
from entitrack.core.statistics.estimates import difference, estimate
from entitrack.methods import run_method
from entitrack.methods.activation_patching.settings import Settings as PatchingSettings
from entitrack.methods.dcm import view
from entitrack.methods.dcm.settings import Settings
from entitrack.methods.dcm.splits import split
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Family
from entitrack.runtime.backends import Local, Runner
from entitrack.runtime.store import Store
from entitrack.tasks.boxes import Boxes
from entitrack.tasks.boxes.desiderata import DESIDERATA
from entitrack.tasks.desiderata import draw_pairs, find_desiderata
from tests.golden_prompts import GoldenTask
from tests.methods import hand_made

SMALL: dict[str, Any] = {
    "force": True,  # of few contexts
    "desiderata": ["object_value", "positional"],
    "sparsity": [0.01, 1.0],
    "draws": 2,
    "steps": 8,
    "batch_size": 16,
}


@pytest.fixture
def experiment(
    golden_experiment: Experiment, golden_task: GoldenTask, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: golden_circuit)
    return dataclasses.replace(golden_experiment, task=dataclasses.replace(golden_task, count=42))


def dcm(experiment: Experiment, **settings: Any) -> Result:
    return run_method("dcm", experiment, Settings(**{**SMALL, **settings}))


@pytest.fixture(scope="module")
def trained(golden_family: Family, golden_task: GoldenTask, golden_circuit: Circuit) -> Result:
    """One training, for all that must hold of any."""
    task = dataclasses.replace(golden_task, count=42)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "circuit", lambda self, model, found_on=None: golden_circuit)
        return dcm(Experiment(golden_family, task, Runner(Local()), "donor", batch_size=21), patience=1)


def masks_of(result: Result) -> Masks:
    masks = result.artefacts["masks"]
    assert isinstance(masks, Masks)
    return masks


def entries(result: Result) -> list[dict[str, str | int]]:
    """Where every mask stands."""
    best = result["best_validation"]
    sizes = [range(best.size(axis)) for axis in ("sparsity", "draw")]
    return [
        {"group": group, "desideratum": rule, "sparsity": sparsity, "draw": draw}
        for group in best.names("group")
        for rule in best.names("desideratum")
        for sparsity in sizes[0]
        for draw in sizes[1]
    ]


@pytest.mark.parametrize("contexts", [4, 5, 7, 12])
def test_no_context_is_in_two_splits(contexts: int) -> None:
    pairs = DESIDERATA["positional"].pairs(Boxes(count=7 * contexts).prompts(), 0)
    splits = split([pairs, pairs])
    parts = [splits.train, splits.validation, splits.test]
    clusters = [{pair.clean.cluster for pair in part[0]} for part in parts]
    assert sum(len(part) for part in clusters) == contexts == len(set().union(*clusters))
    assert len(clusters[0]) == contexts // 2
    assert all(clusters)


def test_a_mask_lies_between_its_brackets_in_number_of_heads(trained: Result, golden_circuit: Circuit) -> None:
    result = trained
    listed = entries(result)
    assert len(listed) == 4 * 2 * 2 * 2
    for entry in listed:
        heads, patched = result["patched_heads"].at(**entry), result["prediction"].at(**entry)
        group = golden_circuit.group(str(entry["group"]))
        taken = [name for name in heads.names("head") if heads.at(head=name).values]
        assert set(taken) <= {f"{layer}.{head}" for layer, head in group.heads}
        if not taken:
            assert torch.equal(patched.at(patched="mask").values, patched.at(patched="nothing").values)
        if len(taken) == len(group.heads):
            assert torch.equal(patched.at(patched="mask").values, patched.at(patched="whole group").values)
    assert result["loss"].size("step") <= SMALL["steps"]
    assert len(result.notes) == 1 + 3 + len(golden_circuit.groups)


def test_the_best_validated_masks_are_chosen(trained: Result) -> None:
    result = trained
    best, heads = result["best_validation"], result["patched_heads"]

    def rank(entry: dict[str, Any]) -> tuple[float, int]:
        return best.number(**entry), int(heads.at(**entry).values.sum())

    assert len(result.facts["chosen"]) == 4 * 2
    for chosen in result.facts["chosen"]:
        unit = {axis: chosen[axis] for axis in ("group", "desideratum")}
        rivals = [entry for entry in entries(result) if unit.items() <= entry.items()]
        assert rank(chosen) == max(map(rank, rivals))
        written = masks_of(result).heads[chosen["group"]][chosen["desideratum"]]
        taken = heads.at(**chosen)
        assert {f"{layer}.{head}" for layer, head in written} == {
            name for name in taken.names("head") if taken.at(head=name).values
        }


def test_what_is_measured_fits_together(trained: Result, golden_circuit: Circuit) -> None:
    """Right means that the target is answered; masks have their own heads and the steps until they are done."""
    result = trained
    targets = result["target"].values[None, :, None, :, None]
    assert torch.equal(result["correct"].values, result["prediction"].values == targets)
    assert set(result["prediction"].values.unique().tolist()) <= set(result.words)
    mask, loss, validation = (result[name] for name in ("mask", "loss", "validation"))
    assert validation.names("step") == ("4", "8")
    assert loss.names("step") == tuple(str(step) for step in range(1, 1 + loss.size("step")))
    assert mask.labels["step"] == loss.labels["step"]
    for group in golden_circuit.groups:
        own = [f"{layer}.{head}" in {f"{la}.{he}" for la, he in group.heads} for layer, head in _heads(mask)]
        first = mask.at(group=group.name, step=0).values
        assert torch.equal(~first.isnan(), torch.tensor(own).expand_as(first))
    assert torch.equal(mask.values.isnan().all(-1), loss.values.isnan())
    there = validation.values.nan_to_num(-1).max(-1).values
    torch.testing.assert_close(there, result["best_validation"].values)


def _heads(mask: Any) -> list[tuple[int, int]]:
    return [tuple(map(int, name.split("."))) for name in mask.names("head")]  # type: ignore[misc]


def test_whole_group_and_nothing_are_activation_patching(experiment: Experiment, golden_circuit: Circuit) -> None:
    """The brackets of the test prompts, found by the other method on the same pairs."""
    trained = dcm(experiment, draws=1, steps=2)["correct"].at(sparsity=0, draw=0)
    settings = PatchingSettings(models=["base"], desiderata=["object_value", "positional"], repeats=1)
    patched = run_method("activation_patching", experiment, settings)["correct"].at(model="base", repeat=0)
    test = trained.size("prompt")
    assert trained.prompts is not None
    assert patched.prompts is not None
    assert trained.prompts.texts == patched.prompts.texts[-test:]
    for group in golden_circuit.groups:
        for rule in patched.names("desideratum"):
            masks = trained.at(group=group.name, desideratum=rule)
            for bracket, row in (("whole group", group.name), ("nothing", "nothing")):
                expected = patched.at(group=row, desideratum=rule).values[-test:]
                assert torch.equal(masks.at(patched=bracket).values, expected)


def test_groups_without_heads_are_named(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, one = Group("value_fetcher", "last", ()), Group("pos_transmitter", "last", ((2, 1),))
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: Circuit((empty, one)))
    result = dcm(experiment, steps=1)
    assert "value_fetcher has no heads: nothing to train" in result.notes
    assert masks_of(result).heads["value_fetcher"]["positional"] == ()
    assert result["correct"].names("group") == ("pos_transmitter",)
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: Circuit((empty,)))
    nothing = hand_made.retold(dcm(experiment))
    assert [len(table.rows) for table in nothing.tables] == [0, 0]
    assert nothing.figure() is not None


def test_finished_sessions_are_not_run_again(experiment: Experiment, tmp_path: Path) -> None:
    on = dataclasses.replace(experiment, runner=Runner(Local(), Store(tmp_path)))
    few: dict[str, Any] = {"draws": 1, "sparsity": [0.01], "steps": 2}
    first = dcm(on, **few)
    units = on.runner.cost.units
    second = dcm(on, **few)
    assert (on.runner.cost.units, on.runner.cost.reused) == (units, units)
    assert masks_of(first).heads == masks_of(second).heads


def test_published_positions_are_borrowed_where_the_structure_is_read(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from entitrack.methods.dcm import training

    train_inputs = training._train_inputs
    for quirks in (NONE, frozenset({Quirk.TRAINING_POSITION})):
        seen: set[Any] = set()

        def noted(*given: Any, seen: set[Any] = seen) -> Any:
            inputs = train_inputs(*given)
            seen.add((given[2].group.name, inputs["borrow_positions"]))
            return inputs

        monkeypatch.setattr(training, "_train_inputs", noted)
        few: dict[str, Any] = {"draws": 1, "sparsity": [0.01], "desiderata": ["positional"]}
        dcm(dataclasses.replace(experiment, quirks=quirks), steps=1, **few)
        names = ("value_fetcher", "pos_transmitter", "pos_detector", "struct_reader")
        assert seen == {(name, bool(quirks) and name == "struct_reader") for name in names}


def test_published_training_takes_two_epochs(experiment: Experiment) -> None:
    """Whatever `steps` and `patience` say; validated after the first step, then every so many."""
    published = dataclasses.replace(experiment, quirks=frozenset({Quirk.TWO_EPOCHS}))
    few: dict[str, Any] = {"draws": 1, "sparsity": [0.01], "groups": ["value_fetcher"], "desiderata": ["positional"]}
    result = dcm(published, steps=1, patience=1, batch_size=8, evaluate_every=2, **few)
    batches = math.ceil(len(training_prompts(experiment, by_prompt=False)) / 8)
    assert result["loss"].size("step") == 2 * batches
    assert not bool(result["loss"].values.isnan().any())
    assert result["validation"].names("step") == tuple(str(step) for step in range(1, 2 * batches + 1, 2))


def training_prompts(experiment: Experiment, by_prompt: bool) -> list[int]:
    """Contexts of the training prompts."""
    rule = find_desiderata(experiment.task, ["positional"])[0]
    pairs = draw_pairs(rule, experiment.task.prompts(), 0)
    return [pair.clean.cluster for pair in split([pairs], by_prompt).train[0]]


def test_published_parts_share_contexts(experiment: Experiment, golden_task: GoldenTask) -> None:
    """Half of the prompts train; a context of seven is then cut where half of the prompts end."""
    experiment = dataclasses.replace(experiment, task=dataclasses.replace(golden_task, count=35))
    prompts = len(experiment.task.prompts())
    by_prompt = training_prompts(experiment, by_prompt=True)
    assert len(by_prompt) == prompts // 2
    assert prompts // 2 % 7
    assert len(training_prompts(experiment, by_prompt=False)) % 7 == 0
    published = dataclasses.replace(experiment, quirks=frozenset({Quirk.SPLIT_BY_PROMPT}))
    few: dict[str, Any] = {"steps": 1, "groups": ["value_fetcher"], "desiderata": ["positional"]}
    assert dcm(published, **few)["correct"].size("prompt") == prompts - prompts // 2 - prompts // 4
    assert any("half of the prompts train" in note for note in dcm(published, **few).notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": []}, "method.sparsity: there are none"),
        ({"sparsity": [0.1, 0.1]}, "method.sparsity.1: the weight 0.1 is there twice"),
        ({"sparsity": [0.1, -1]}, r"method.sparsity.1: -1 is not 0 or more"),
        ({"patience": 0}, "method.patience: 0 is not 1 or more"),
        ({"groups": ["nobody"]}, "no group 'nobody'"),
        ({"desiderata": ["nothing_such"]}, "no desideratum 'nothing_such'"),
        ({"desiderata": []}, "no desideratum is listed"),
        ({"model": "nobody"}, "no member 'nobody'"),
    ],
)
def test_mistakes_are_named(experiment: Experiment, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dcm(experiment, **settings)


def test_too_few_contexts_are_refused(experiment: Experiment, golden_task: GoldenTask) -> None:
    few = dataclasses.replace(experiment, task=dataclasses.replace(golden_task, count=21))
    with pytest.raises(UserError, match="3 contexts are too few"):
        dcm(few)


# Two groups of which one has no heads, two desiderata, two weights, six test prompts that are there twice, each in a
# context of its own.
MASK = {"position": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]], "value": [[0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]]}
WHOLE = {"position": [1, 1, 1, 1, 1, 1], "value": [1, 1, 0, 0, 0, 0]}
NOTHING = {"position": [0, 0, 0, 0, 0, 0], "value": [0, 0, 0, 1, 1, 1]}
VALIDATION = {"position": [[0.25, 0.75], [0.5, 0.5]], "value": [[0.0, 0.25], [0.25, math.nan]]}


def small_result() -> Result:
    on = hand_made.prompts(12)
    labels: dict[str, Any] = {"group": ["fetch"], "desideratum": ["position", "value"], "sparsity": ["0.01", "1.0"]}
    rows = [[[[mask, WHOLE[rule], NOTHING[rule]]] for mask in MASK[rule]] for rule in MASK]
    correct = torch.tensor(rows).bool().repeat(1, 1, 1, 1, 2).tolist()
    heads = ("2.1", "1.0", "0.3")
    patched = [[[[True, True, False]], [[True, False, False]]], [[[False, False, False]], [[False, False, True]]]]
    axes = "group desideratum sparsity draw"
    return hand_made.laid_out(
        "dcm",
        {
            "model": "base",
            "groups": {"fetch": [(2, 1), (0, 3), (1, 0)], "none": []},
            "desiderata": ["position", "value"],
            "quirks": [],
            "chosen": [
                {"group": "fetch", "desideratum": "position", "sparsity": 0, "draw": 0},
                {"group": "fetch", "desideratum": "value", "sparsity": 1, "draw": 0},
            ],
        },
        {
            "correct": hand_made.measured(
                [correct], f"{axes} patched", on, **labels, patched=["mask", "whole group", "nothing"]
            ),
            "best_validation": hand_made.measured([[[[0.75], [0.5]], [[0.25], [0.25]]]], axes, **labels),
            "patched_heads": hand_made.measured([patched], f"{axes} head", **labels, head=heads),
            "validation": hand_made.measured(
                [[[[curve] for curve in VALIDATION[rule]] for rule in VALIDATION]],
                f"{axes} step",
                **labels,
                step=["4", "8"],
            ),
        },
    )


def accuracy(right: list[int]) -> Any:
    return estimate(torch.tensor(right).bool().repeat(2), torch.arange(12))


def gain(mask: list[int], nothing: list[int]) -> Any:
    first, second = (torch.tensor(right).bool().repeat(2) for right in (mask, nothing))
    return difference(first, second, torch.arange(12))


def test_tables_say_what_was_measured() -> None:
    result = small_result()
    main, heads, every = result.tables
    assert main.title == "DCM on base: test targets answered"
    brackets = ("nothing [95 %]", "mask [95 %]", "whole group [95 %]")
    assert main.columns == ("group/desideratum", *brackets, "heads", "n")

    def row(name: str, rule: str, mask: int, taken: str) -> tuple[Any, ...]:
        accuracies = (accuracy(NOTHING[rule]), accuracy(MASK[rule][mask]), accuracy(WHOLE[rule]))
        return (name, *accuracies, taken, 12)

    assert main.rows == (row("fetch/position", "position", 0, "2 of 3"), row("fetch/value", "value", 1, "1 of 3"))
    assert heads.columns == ("group/desideratum", "mask minus nothing [95 %]", "heads")
    assert heads.rows == (
        ("fetch/position", gain(MASK["position"][0], NOTHING["position"]), "2.1, 1.0"),
        ("fetch/value", gain(MASK["value"][1], NOTHING["value"]), "0.3"),
    )
    assert gain(MASK["position"][0], NOTHING["position"]).value == pytest.approx(5 / 6)
    assert every.columns == ("group/desideratum/sparsity/draw", *main.columns[1:])
    assert every.rows == (
        row("fetch/position/0.01/0", "position", 0, "2 of 3"),
        row("fetch/position/1/0", "position", 1, "1 of 3"),
        row("fetch/value/0.01/0", "value", 0, "0 of 3"),
        row("fetch/value/1/0", "value", 1, "1 of 3"),
    )
    assert result.notes[3:] == ("fetch carries position (+0.83)", "none has no heads: nothing to train")


def what_is_carried(gained: list[int], contexts: int) -> str:
    """What is said of a group that answers so many of the targets, a desideratum each, of which it answered none."""
    rules = [f"rule{number}" for number in range(len(gained))]
    correct = [[[[[right < gain for right in range(contexts)], [False] * contexts]]] for gain in gained]
    labels: dict[str, Any] = {"group": ["fetch"], "desideratum": rules, "patched": ["mask", "nothing"]}
    axes, on = "group desideratum sparsity draw patched", hand_made.prompts(contexts)
    chosen = [{"group": "fetch", "desideratum": rule, "sparsity": 0, "draw": 0} for rule in rules]
    facts = {"groups": {"fetch": [(0, 0)]}, "quirks": [], "chosen": chosen}
    result = Result("dcm", facts, {"correct": hand_made.measured([correct], axes, on, **labels)})
    return str(view.notes(result)[-1])


def test_what_a_group_carries_is_corrected_over_the_table() -> None:
    """What would be said of one desideratum alone is not, where it is the best of many that do nothing."""
    assert what_is_carried([6], 20) == "fetch carries rule0 (+0.30)"
    assert what_is_carried([6] + [0] * 19, 20) == "fetch carries none of these"
    assert what_is_carried([6, 16] + [0] * 18, 20) == "fetch carries rule1 (+0.80)"
    assert what_is_carried([9], 9) == "what fetch carries is not said: too few contexts"


def test_the_figure_draws_chosen_masks_and_how_they_came() -> None:
    result = small_result()
    (heat_map,), (curves,) = hand_made.maps(result), hand_made.plots(result)
    expected = torch.tensor([[5 / 6, 0.5], [math.nan, math.nan]], dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(heat_map.values, dtype=torch.float64), expected, equal_nan=True)
    interval = accuracy(MASK["position"][0])
    assert heat_map.texts[0][0] == f"{in_cell(interval)}\n2 of 3"
    assert heat_map.texts[0][1].endswith("\n1 of 3")
    assert heat_map.rows.entries == ("fetch", "none")
    assert "Hatched: groups without heads (none)." in hand_made.drawing(result).notes
    assert (curves.title, curves.y_limits) == ("fetch", (-0.02, 1.02))
    curves_of: list[Tensor] = [torch.tensor(curve) for rule in VALIDATION for curve in VALIDATION[rule]]
    for drawn, curve in zip(curves.curves, curves_of, strict=True):
        assert [entry.x for entry in drawn.points] == [4, 8]
        torch.testing.assert_close(torch.tensor([entry.y for entry in drawn.points]), curve, equal_nan=True)
    assert [curve.faint for curve in curves.curves] == [False, True, True, False]
    assert [curve.label for curve in curves.curves] == ["position", "position", "value", "value"]
    assert [curve.hue for curve in curves.curves] == ["other 0", "other 0", "other 1", "other 1"]
