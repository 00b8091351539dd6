"""CMAP: laws that hold for any models and any circuit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from entitrack.core.circuits import SHIPPED, Circuit, Group
from entitrack.core.components import WITHOUT_HEADS
from entitrack.core.drawing import BASE, TESTED
from entitrack.core.errors import UserError
from entitrack.core.masks import Masks
from entitrack.core.measurement import PromptSet, stacked
from entitrack.core.quirks import NONE, Quirk
from entitrack.core.result import Result
from entitrack.engine.patching import answer, answer_patched, read_sites
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import Settings
from entitrack.methods.cmap.transplants import Plan, Transplant, group_sites, plan_inputs
from entitrack.methods.experiment import Experiment, prompt_inputs
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from tests.methods import hand_made
from tests.naive import components, layouts
from tests.naive.prompts import Prompts

FORMS = [Settings(controls=0), Settings(form="input", components=["q", "kv", "qkv"])]


def cmap(experiment: Experiment, settings: Settings) -> Result:
    """CMAP; beside random heads only where a test asks for some."""
    few = settings if "controls" in settings.model_fields_set else settings.model_copy(update={"controls": 0})
    return run_method("cmap", experiment, few)


def right(result: Result, model: str) -> Tensor:
    """Whether a model answers each prompt rightly."""
    return result["correct"].at(model=model).values


def with_circuit(experiment: Experiment, circuit: Circuit, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setattr(Experiment, "circuit", lambda self, model, found_on=None: circuit)
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
    result = cmap(with_circuit(golden_experiment, circuit, monkeypatch), Settings(controls=0))
    assert torch.equal(right(result, "nothing"), right(result, "base"))
    assert any("nothing has no heads" in note for note in result.notes)


def test_every_head_everywhere_it_matters_moves_the_answers(
    golden_experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all heads at the last token the base answers nearly as the donor: only its MLPs there are its own."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    circuit = Circuit((Group("everything", "last", heads),))
    result = cmap(with_circuit(golden_experiment, circuit, monkeypatch), Settings(controls=0))
    agree = {name: (right(result, "everything") == right(result, name)).float().mean() for name in ("donor", "base")}
    assert agree["donor"] >= 0.85


@pytest.mark.parametrize("component", WITHOUT_HEADS)
def test_components_without_heads_move_as_naively(
    golden_experiment: Experiment, golden_folder: Path, monkeypatch: pytest.MonkeyPatch, component: str
) -> None:
    """What the donor has of one layer, at the role of the group whose heads are there, put into the base by hooks."""
    circuit = Circuit((Group("early", "query_label", ((1, 2), (1, 4))), Group("late", "last", ((3, 0),))))
    experiment = with_circuit(golden_experiment, circuit, monkeypatch)
    result = cmap(experiment, Settings(components=[component, "z"]))
    (batch,) = [experiment.encode(experiment.task.prompts())]
    layout, prompts = layouts.layout_of(experiment.base().envoy._module), Prompts(batch.tokens, batch.mask)
    base, donor = (experiment.member(name).envoy._module for name in ("base", "donor"))
    for group, layer in (("early", 1), ("late", 3)):
        position = batch.positions[circuit.group(group).role]
        values = components.read_component(donor, layout, prompts, component, layer, position)
        last = batch.positions["last"]
        logits = components.component_patched_logits(base, layout, prompts, component, layer, position, values, last)
        assert torch.equal(result["prediction"].at(model=f"{group} {component}").values, logits.argmax(-1))
    assert result.facts["heads"] == dict.fromkeys([f"full circuit {component}", "full circuit"], 3) | {
        f"early {component}": 2,
        "early": 2,
        f"late {component}": 1,
        "late": 1,
    }
    assert WITHOUT_HEADS[component] in result.tables[0].title


def test_masks_narrow_the_groups_that_are_named(golden_experiment: Experiment, tmp_path: Path) -> None:
    """Only heads that carry the group's desideratum move; groups without one are whole."""
    circuit = Circuit((Group("one", "last", ((0, 1), (2, 2), (3, 3))), Group("two", "last", ((1, 1), (1, 2)))))
    experiment = in_files(golden_experiment, tmp_path, base=circuit)
    masks = Masks({"one": {"positional": ((2, 2),)}, "two": {"positional": ()}})
    masks.write(tmp_path / "masks.json")
    settings = {"masks": str(tmp_path / "masks.json"), "narrow": {"one": "positional"}}
    narrowed = cmap(experiment, Settings(**settings))  # type: ignore[arg-type]
    assert narrowed.facts["heads"] == {"full circuit": 3, "one": 1, "two": 2}
    assert any("masks.json" in note for note in narrowed.notes)
    by_hand = Circuit((Group("one", "last", ((2, 2),)), circuit.groups[1]))
    expected = cmap(in_files(golden_experiment, tmp_path, base=by_hand), Settings(controls=0))
    assert torch.equal(narrowed["prediction"].values, expected["prediction"].values)
    with pytest.raises(UserError, match=r"method\.narrow\.three: no group 'three' in the circuit; available: one, two"):
        cmap(experiment, Settings(**{**settings, "narrow": {"three": "positional"}}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("units", "names"), [("heads", ["one 0.1", "one 2.2", "one 2.3"]), ("layers", ["one layer 0", "one layer 2"])]
)
def test_heads_and_layers_move_by_themselves(
    golden_experiment: Experiment, tmp_path: Path, units: str, names: list[str]
) -> None:
    """Each is what a circuit of it alone gives, and all together are the circuit."""
    circuit = Circuit((Group("one", "last", ((0, 1), (2, 2), (2, 3))),))
    experiment = in_files(golden_experiment, tmp_path, base=circuit)
    whole = cmap(experiment, Settings(controls=0))["prediction"]
    parts = cmap(experiment, Settings(controls=0, units=units))  # type: ignore[arg-type]
    assert list(parts.facts["heads"]) == ["full circuit", *names]
    assert torch.equal(parts["prediction"].at(model="full circuit").values, whole.at(model="full circuit").values)
    last = Circuit((Group("one", "last", ((2, 2), (2, 3)) if units == "layers" else ((2, 3),)),))
    alone = cmap(in_files(golden_experiment, tmp_path, base=last), Settings(controls=0))["prediction"]
    assert torch.equal(parts["prediction"].at(model=names[-1]).values, alone.at(model="one").values)


def test_a_donor_s_heads_may_be_replaced_by_the_base_s(golden_experiment: Experiment, tmp_path: Path) -> None:
    """All heads at the last token of the base, in the donor: it answers nearly as the base."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    experiment = in_files(golden_experiment, tmp_path, base=Circuit((Group("all", "last", heads),)))
    result = cmap(dataclasses.replace(experiment, donor="base"), Settings(recipient="donor", controls=2))
    assert (result.facts["base"], result.facts["donor"]) == ("donor", "base")
    plain, found = cmap(experiment, Settings(controls=0))["prediction"], result["prediction"]
    for one, other in (("base", "donor"), ("donor", "base")):
        assert torch.equal(found.at(model=one).values, plain.at(model=other).values)
    moved = found.at(model="all").values
    agree = {name: float((moved == found.at(model=name).values).float().mean()) for name in ("base", "donor")}
    assert agree["donor"] > agree["base"]
    (row,) = [row for row in result.tables[0].rows if row[0] == "recipient with donor's all"]
    assert result.tables[0].columns[3] == "minus recipient [95 %]"
    assert row[4] is None or 0.5 < float(row[4]) < 1.5  # type: ignore[arg-type]


def in_files(experiment: Experiment, folder: Path, **circuits: Circuit) -> Experiment:
    """An experiment on the circuit of that file; `shipped` are those of members, as a family ships them."""
    for name, circuit in circuits.items():
        circuit.write(folder / f"{name}.json")
    return dataclasses.replace(experiment, circuit_name=str(folder / "base.json"))


def test_published_heads_are_those_of_the_donor_s_masks(
    golden_experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The donor's own circuit, its value fetchers narrowed by object value, structure readers whole."""
    own = Circuit((Group("value_fetcher", "last", ((3, 1), (3, 4))), Group("struct_reader", "last", ((0, 1),))))
    other = Circuit((Group("value_fetcher", "last", ((2, 2),)), Group("struct_reader", "last", ())))
    for name, circuit in {"donor": own, "base": other}.items():
        circuit.write(tmp_path / f"{name}.json")
    monkeypatch.setitem(SHIPPED, "golden", tmp_path)
    experiment = dataclasses.replace(golden_experiment, quirks=frozenset({Quirk.DONOR_CIRCUIT}))
    Masks({"value_fetcher": {"object_value": ((3, 4),)}}).write(tmp_path / "masks")
    settings = {"masks": str(tmp_path / "masks"), "narrow": {"value_fetcher": "object_value"}}
    result = cmap(experiment, Settings(**settings))  # type: ignore[arg-type]
    assert result.facts["heads"] == {"full circuit": 2, "value_fetcher": 1, "struct_reader": 1}
    assert any("donor's own circuit" in note for note in result.notes)
    with pytest.raises(UserError, match=r"method\.masks: the published heads are narrowed by masks; pass"):
        cmap(experiment, Settings(controls=0))
    assert cmap(golden_experiment, Settings(controls=0)).facts["heads"]["value_fetcher"] == 1


def test_published_groups_before_the_last_token_are_held(golden_experiment: Experiment) -> None:
    """With every z held where it stands, q there can do nothing: the right answer is as likely as it was."""
    heads = tuple((layer, head) for layer in range(4) for head in range(6))
    circuit = Circuit((Group("all", "query_label", heads),))
    batch = golden_experiment.encode(golden_experiment.task.prompts())
    base, donor = golden_experiment.base(), golden_experiment.member("donor")
    probabilities = {}
    for quirks in (NONE, frozenset({Quirk.HELD_GROUP})):
        plan = plan_inputs(base, batch, [Transplant("all", circuit.groups, "q")], quirks)
        (predicted,) = probability_with(golden_experiment, base, donor, batch, plan)
        probabilities[bool(quirks)] = predicted
    own = golden_experiment.runner.run(base, answer, {"prompts": prompt_inputs(batch)})["probability"]
    torch.testing.assert_close(probabilities[True], own)
    assert float((probabilities[False] - own).abs().max()) > 1e-3


def probability_with(experiment: Experiment, base: Model, donor: Model, batch: EncodedBatch, plan: Plan) -> Tensor:
    """Of the right answer, `[variant, batch]`."""
    prompts = prompt_inputs(batch)
    read = experiment.runner.run(donor, read_sites, {"prompts": prompts, "sites": plan.sites})
    patches = [{**site, "values": values} for site, values in zip(plan.sites, read["values"], strict=True)]
    given = {"prompts": prompts, "patches": patches, "variants": plan.variants, "live": plan.live}
    return experiment.runner.run(base, answer_patched, given)["probability"]


def test_published_structure_readers_are_where_the_first_prompt_of_a_batch_has_them(
    golden_experiment: Experiment, golden_circuit: Circuit
) -> None:
    batch = golden_experiment.encode(golden_experiment.task.prompts())
    first = batch.positions["prev_query_label"][0]
    for group, site in group_sites([Transplant("all", golden_circuit.groups, "z")], batch, one_position=True):
        role = group.role
        expected = first.expand(len(batch)) if group.name == "struct_reader" else batch.positions[role]
        assert torch.equal(site["position"], expected)
    assert len(batch.positions["prev_query_label"].unique()) > 1
    transplants = [Transplant("all", golden_circuit.groups, "qkv")]
    for quirks, published in ((NONE, False), (frozenset({Quirk.ONE_POSITION}), True)):
        sites = plan_inputs(golden_experiment.base(), batch, transplants, quirks).sites
        sites_of_groups = group_sites(transplants, batch, one_position=published)
        expected_positions = [site["position"] for _, site in sites_of_groups for _ in "qkv"]
        assert all(map(torch.equal, (site["position"] for site in sites), expected_positions))


@pytest.mark.parametrize("batch_size", [5, 42])
def test_the_size_of_batches_does_not_matter(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    whole = cmap(experiment, Settings(controls=2))
    other = cmap(dataclasses.replace(experiment, batch_size=batch_size, padding="left"), Settings(controls=2))
    assert whole["correct"].labels == other["correct"].labels
    for name in ("correct", "prediction", "control.correct"):
        assert torch.equal(whole[name].values, other[name].values)


def test_a_session_a_batch_and_model(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = with_circuit(golden_experiment, golden_circuit, monkeypatch)
    cmap(experiment, Settings(controls=0))
    assert experiment.runner.cost.units == 2 * 2
    cmap(experiment, Settings(controls=1, control_prompts=21))
    assert experiment.runner.cost.units == 2 * 2 + 2 * 2 + 2 + 3


def test_a_group_that_does_not_exist_is_named(
    golden_experiment: Experiment, golden_circuit: Circuit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"method\.groups\.0: no group 'nope'.*value_fetcher"):
        cmap(with_circuit(golden_experiment, golden_circuit, monkeypatch), Settings(groups=["nope"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "sideways"}, r"method\.form: unknown form 'sideways'; available: output, input"),
        (
            {"form": "input", "components": ["z"]},
            r"method\.components\.0: the input form does not move 'z'; avail.*: q, k",
        ),
        ({"components": ["q"]}, r"method\.components\.0: the output form does not move 'q'; available: z, resid_pre"),
        ({"components": ["o"]}, r"method\.components\.0: unknown component 'o'; available: z, resid_pre"),
    ],
)
def test_a_setting_that_does_not_exist_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**values)


def test_an_unknown_donor_is_named(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match="donor: family 'golden' has no member 'nope'; available: base, donor, twin"):
        cmap(dataclasses.replace(golden_experiment, donor="nope"), Settings(controls=0))


def made_result() -> Result:
    """Twelve contexts of four prompts: the base answers one rightly, the donor three, the base with the group two."""
    prompts = PromptSet(("a", "b", "c", "d") * 12, ("w", "x", "y", "z") * 12, torch.arange(48) // 4)
    rows = {
        "base": torch.tensor([1, 0, 0, 0] * 12),
        "donor": torch.tensor([1, 1, 1, 0] * 12),
        "full circuit": torch.tensor([0, 1, 1, 0] * 12),
        "empty": torch.tensor([1, 0, 0, 0] * 12),
    }
    facts = {
        **{
            "base": "llama",
            "family_base": "llama",
            "donor": "float",
            "form": "output",
            "components": ["z"],
            "masks": None,
            "quirks": [],
        },
        "heads": {"full circuit": 3, "empty": 0},
    }
    return Result("cmap", facts, {"correct": stacked(rows, "model", prompts)}).laid_out()


def test_every_column_says_what_was_measured() -> None:
    (table,) = made_result().tables
    assert table.title == "CMAP: float -> llama, z of the circuit's heads at their roles"
    assert table.columns == ("model", "heads", "accuracy [95 %]", "minus base [95 %]", "of the gap", "n")
    cells = [(row[0], row[1], row[2].value, row[3] and row[3].value, row[4], row[5]) for row in table.rows]  # type: ignore[union-attr]
    assert cells == [
        ("llama (base)", None, 0.25, None, None, 48),
        ("float (donor)", None, 0.75, 0.5, None, 48),
        ("base with donor's full circuit", 3, 0.5, 0.25, 0.5, 48),
        ("base with donor's empty", 0, 0.25, 0.0, 0.0, 48),
    ]


def test_a_group_without_heads_is_named() -> None:
    notes = made_result().notes
    assert [note for note in notes if "no heads" in note] == ["group empty has no heads: its row is the base"]
    assert any(note.startswith("MLPs, embeddings") for note in notes)


def test_the_figure_draws_the_table() -> None:
    result = made_result()
    main, *_ = hand_made.row_panels(result)
    values = [hand_made.plain(row.marks[0].value) for row in main.rows]
    assert values == [row[2].value for row in result.tables[0].rows]  # type: ignore[union-attr]
    assert [(line.direction, line.at) for line in main.lines] == [("up", value) for value in values[:2]]
    assert [row.name for row in main.rows] == ["llama (base)", "float (donor)", "+ full circuit (3)", "+ empty (0)"]
    assert [row.text for row in main.rows] == ["", "", "", "empty"]
    assert main.limits == (0, 1)
    assert [row.marks[0].hue for row in main.rows] == [BASE, "donor 0", TESTED, TESTED]
