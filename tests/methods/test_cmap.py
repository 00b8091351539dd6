"""CMAP: laws that hold for any models and any circuit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.measurement import PromptSet, stacked
from entitrack.core.result import Result
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import Settings
from entitrack.methods.experiment import Experiment

FORMS = [Settings(), Settings(form="input", components=["q", "kv", "qkv"])]


def cmap(experiment: Experiment, settings: Settings) -> Result:
    return run_method("cmap", experiment, settings)


def right(result: Result, model: str) -> Tensor:
    """Whether a model answers each prompt rightly."""
    return result["correct"].at(model=model).values


def with_circuit(experiment: Experiment, circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model: circuit)
    return experiment


@pytest.mark.parametrize("settings", FORMS, ids=["output", "input"])
def test_a_donor_equal_to_the_base_changes_no_answer(
    golden_experiment: Experiment,
    golden_circuit: Circuit,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    result = cmap(dataclasses.replace(experiment, donor="twin"), settings)
    for model in result["correct"].names("model"):
        assert torch.equal(right(result, model), right(result, "base"))


def test_an_empty_group_leaves_the_base(golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = Circuit((Group("nothing", "last", ()),))
    result = cmap(with_circuit(golden_experiment, circuit, monkeypatch), Settings())
    assert torch.equal(right(result, "nothing"), right(result, "base"))
    assert any("nothing has no heads" in note for note in result.notes)


def test_every_head_everywhere_it_matters_moves_the_answers(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all heads at the last token the base answers nearly as the donor: only its MLPs there are its own."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    circuit = Circuit((Group("everything", "last", heads),))
    result = cmap(with_circuit(golden_experiment, circuit, monkeypatch), Settings())
    agree = {name: (right(result, "everything") == right(result, name)).float().mean() for name in ("donor", "base")}
    assert agree["donor"] >= 0.85


@pytest.mark.parametrize("batch_size", [5, 42])
def test_the_size_of_batches_does_not_matter(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    whole = cmap(experiment, Settings())
    other = cmap(dataclasses.replace(experiment, batch_size=batch_size, padding="left"), Settings())
    assert whole["correct"].labels == other["correct"].labels
    for name in ("correct", "prediction"):
        assert torch.equal(whole[name].values, other[name].values)


def test_a_session_a_batch_and_model(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    cmap(experiment, Settings())
    assert experiment.runner.cost.units == 2 * 2


def test_a_group_that_does_not_exist_is_named(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"method\.groups\.0: no group 'nope'.*value_fetcher"):
        cmap(with_circuit(golden_experiment, golden_circuit, monkeypatch), Settings(groups=["nope"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "sideways"}, r"method\.form: unknown form 'sideways'; available: output, input"),
        ({"form": "input", "components": ["z"]}, r"method\.components\.0: unknown component 'z'; available: q, k, v"),
        ({"components": []}, r"method\.components: "),
    ],
)
def test_a_setting_that_does_not_exist_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**values)


def test_an_unknown_donor_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match="donor: family 'golden' has no member 'nope'; available: base, donor, twin"):
        cmap(dataclasses.replace(golden_experiment, donor="nope"), Settings())


def made_result() -> Result:
    """Four prompts of two contexts: the base answers one rightly, the donor three, the base with the group two."""
    prompts = PromptSet(("a", "b", "c", "d"), ("w", "x", "y", "z"), torch.tensor([0, 0, 1, 1]))
    rows = {
        "base": torch.tensor([1, 0, 0, 0]),
        "donor": torch.tensor([1, 1, 1, 0]),
        "full circuit": torch.tensor([0, 1, 1, 0]),
        "empty": torch.tensor([1, 0, 0, 0]),
    }
    facts = {"base": "llama", "donor": "float", "form": "output", "heads": {"full circuit": 3, "empty": 0}}
    return Result("cmap", facts, {"correct": stacked(rows, "model", prompts)}).laid_out()


def test_every_column_says_what_was_measured() -> None:
    (table,) = made_result().tables
    assert table.title == "CMAP: float -> llama, z of the circuit's heads at their roles"
    assert table.columns == ("model", "heads", "accuracy [95 %]", "minus base [95 %]", "n")
    cells = [(row[0], row[1], row[2].value, row[3] and row[3].value, row[4]) for row in table.rows]  # type: ignore[union-attr]
    assert cells == [
        ("llama (base)", None, 0.25, None, 4),
        ("float (donor)", None, 0.75, 0.5, 4),
        ("base with donor's full circuit", 3, 0.5, 0.25, 4),
        ("base with donor's empty", 0, 0.25, 0.0, 4),
    ]


def test_a_group_without_heads_is_named() -> None:
    notes = made_result().notes
    assert [note for note in notes if "no heads" in note] == ["group empty has no heads: its row is the base"]
    assert any(note.startswith("MLPs, embeddings") for note in notes)


def test_the_figure_draws_the_table() -> None:
    result = made_result()
    figure = result.figure()
    assert figure is not None
    (axis,) = figure.axes
    widths = [bar.get_width() for bar in axis.patches]  # type: ignore[attr-defined]
    assert widths == [row[2].value for row in result.tables[0].rows]  # type: ignore[union-attr]
    lines = [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == "--"]  # type: ignore[index]
    assert lines == widths[:2]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["llama (base)", "float (donor)", "base + full circuit", "base + empty"]
    assert axis.get_xlim() == (0, 1)
    assert axis.get_ylim()[0] > axis.get_ylim()[1]
