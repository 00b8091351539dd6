"""Two circuits side by side: counted by hand, against chance, and without any model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from entitrack.core.circuits import Circuit, Group, read_circuit
from entitrack.core.errors import UserError
from entitrack.core.result import Result
from entitrack.core.table import Table
from entitrack.methods import run_method
from entitrack.methods.compare.head_sets import head_sets
from entitrack.methods.compare.settings import Settings
from entitrack.methods.experiment import Experiment
from entitrack.models.family import Checkpoint, Family
from entitrack.runtime.backends import Local, Runner
from entitrack.tasks.boxes import Boxes
from tests.conftest import Launch
from tests.methods import hand_made

FIRST = Circuit(
    (
        Group("fetch", "last", ((3, 0), (2, 1), (1, 1), (0, 2))),
        Group("bring", "last", ((0, 5), (2, 1))),
        Group("read", "query_label", ((0, 0),)),
    ),
    {"model": "one", "task": {"seed": 0, "count": 7}, "settings": {"size": 4}},
)
SECOND = Circuit(
    (
        Group("fetch", "last", ((1, 1), (3, 0), (0, 5))),
        Group("bring", "last", ((2, 1), (0, 2))),
        Group("tell", "query_label", ((0, 0), (0, 1))),
    ),
    {"model": "one", "task": {"seed": 1, "count": 7}},
)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    FIRST.write(tmp_path / "first.json")
    SECOND.write(tmp_path / "second.json")
    return [str(tmp_path / name) for name in ("first.json", "second.json")]


@pytest.fixture
def bare() -> Experiment:
    """The embedded family, of which nothing may be loaded."""

    class Bare(Family):
        def load(self, name: str, place: str = "donor") -> Any:
            raise AssertionError(f"{name} is loaded")

    members = {name: Checkpoint(f"zoo://tiny/{name}") for name in ("llama", "vicuna", "float")}
    return Experiment(Bare("tiny", "llama", members), Boxes(count=7), Runner(Local()), "float")


def compare(experiment: Experiment, circuits: Sequence[str] | None = None) -> Result:
    return run_method("compare", experiment, Settings(circuits=list(circuits) if circuits else None))


def row(table: Table, *names: object) -> tuple[Any, ...]:
    (found,) = [each for each in table.rows if each[: len(names)] == names]
    return found[len(names) :]


def test_counts_are_those_by_hand(bare: Experiment, files: list[str]) -> None:
    main, smaller, heads, origins = compare(bare, files).tables
    counts = {each[0]: each[1:4] for each in main.rows}
    assert counts == {
        "fetch": (4, 3, 2),
        "bring": (2, 2, 1),
        "read": (1, 0, 0),
        "tell": (0, 2, 0),
        "all at last": (5, 5, 5),  # 3.0 2.1 1.1 0.2 0.5, whichever group has them
        "all at query_label": (1, 2, 1),
        "whole circuit": (6, 7, 6),
    }
    jaccard = {each[0]: each[6].value for each in main.rows if each[6].n}  # type: ignore[union-attr]
    assert jaccard["fetch"] == 2 / 5
    assert jaccard["bring"] == 1 / 3
    assert jaccard["whole circuit"] == 6 / 7
    shares = {each[0]: (each[1], str(each[2]).split()[0], each[4]) for each in smaller.rows}
    assert shares["fetch"] == ("last", ".667", "-1.00")  # 3.0 before 1.1, and after it
    assert shares["read"] == ("query_label", "of", "")
    assert shares["all at last"] == ("last", "1.000", "")
    assert row(heads, "fetch", "last", "3.0") == (1, 2, "")
    assert row(heads, "fetch", "last", "0.2") == (4, None, "bring")
    assert row(heads, "fetch", "last", "0.5") == (None, 3, "bring")
    assert row(heads, "fetch", "last", "2.1") == (2, None, "")  # bring has it in both: it did not move there
    assert row(heads, "bring", "last", "0.5") == (1, None, "fetch")
    assert row(heads, "read", "query_label", "0.0") == (1, None, "tell")
    assert origins.rows == (("task.seed", "0", "1"), ("settings.size", "4", ""))


def test_chance_is_hypergeometric(bare: Experiment, files: list[str]) -> None:
    result = compare(bare, files)
    fetch = stats.hypergeom(24, 4, 3)
    assert result["by_chance"].number(set="group fetch") == pytest.approx(fetch.mean())
    assert result["p_value"].number(set="group fetch") == pytest.approx(fetch.sf(1))
    near, far = stats.hypergeom(24, 5, 5), stats.hypergeom(24, 1, 2)
    whole = sum(near.pmf(one) * far.pmf(other) for one, other in product(range(6), range(2)) if one + other >= 6)
    assert result["p_value"].number(set="circuit") == pytest.approx(whole)
    expected = [count / (7 - count) * fetch.pmf(count) for count in range(4)]
    assert result["jaccard_by_chance"].number(set="group fetch") == pytest.approx(sum(expected))


def test_a_group_at_two_roles_has_nothing_in_common() -> None:
    there = Circuit((Group("fetch", "query_label", FIRST.groups[0].heads),))
    (group, *_) = head_sets(FIRST, there)
    overlap = group.overlap(24)
    assert (overlap.shared, overlap.by_chance, overlap.p_value) == (0, 0.0, 1.0)
    assert group.roles == ["last", "query_label"]


def test_a_circuit_is_itself_and_order_does_not_matter_to_overlap(bare: Experiment, files: list[str]) -> None:
    same = compare(bare, [files[0]] * 2)
    counts = [same[name].values for name in ("first", "second", "shared")]
    assert torch.equal(counts[0], counts[1])
    assert torch.equal(counts[0], counts[2])
    assert same["rank_agreement"].number(set="group fetch") == pytest.approx(1)
    assert same.facts["found_on"] == []
    assert same.notes[-1] == "both were found on the same, in the same way"
    assert not any(member["moved"] for member in same.facts["members"])
    there, back = compare(bare, files), compare(bare, files[::-1])
    for name in ("shared", "jaccard", "p_value", "by_chance", "of_smaller"):
        for label in there[name].names("set"):
            one, other = (result[name].number(set=label) for result in (there, back))
            assert one == pytest.approx(other, nan_ok=True)


def test_random_circuits_overlap_as_chance() -> None:
    """A known null: p-values of random groups are small no more often than they say."""
    random, heads = Random(0), list(product(range(4), range(6)))
    found = []
    for _ in range(300):
        both = [Circuit((Group("g", "last", tuple(random.sample(heads, 6))),)) for _ in range(2)]
        found.append(head_sets(*both)[0].overlap(24))
    assert np.mean([each.shared for each in found]) == pytest.approx(found[0].by_chance, abs=0.2)
    assert sum(each.p_value <= 0.05 for each in found) <= 300 * 0.05 + 3 * (300 * 0.05) ** 0.5


def test_the_shipped_ones_are_compared_where_none_is_named(bare: Experiment) -> None:
    result = compare(bare)
    assert result.facts["circuits"] == ["llama", "float"]
    llama, other = (read_circuit(name, "tiny") for name in ("llama", "float"))
    assert result["first"].number(set="circuit") == llama.size
    assert result["second"].number(set="circuit") == other.size
    for group in llama.groups:
        shared = set(group.heads) & set(other.group(group.name).heads)
        assert result["shared"].number(set=f"group {group.name}") == len(shared)
    assert bare.circuits.keys() == {"llama", "float"}
    assert result.notes[-1] == "found on differing model, identity, settings.model"


def test_what_does_not_say_what_it_was_found_on_is_named(bare: Experiment, tmp_path: Path, files: list[str]) -> None:
    dataclasses.replace(FIRST, found_on={}).write(tmp_path / "silent.json")
    silent = str(tmp_path / "silent.json")
    result = compare(bare, [files[0], silent])
    assert result.notes[-1] == f"{silent} does not say what it was found on"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"^method\.circuits: lists 0; two circuits are compared: write \[FIRST, SECOND\]"),
        (["llama"], r"^method\.circuits: lists 1;"),
        (["llama", "float", "goat"], r"^method\.circuits: lists 3;"),
        (["llama", "nope"], r"^method\.circuits\.1: no file 'nope', .*available: float, goat, llama, vicuna"),
    ],
)
def test_circuits_that_are_not_two_are_refused(bare: Experiment, given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_method("compare", bare, Settings(circuits=given))


def test_what_cannot_be_compared_is_named(bare: Experiment, tmp_path: Path) -> None:
    Circuit((Group("g", "anywhere", ((0, 99),)),)).write(tmp_path / "c.json")
    with pytest.raises(
        UserError, match=r"^method\.circuits\.1, group 'g': no head \[0, 99\]; available: layers 0 to 3"
    ):
        compare(bare, ["llama", str(tmp_path / "c.json")])
    with pytest.raises(UserError, match=r"^donor: 'llama' is the base"):
        compare(dataclasses.replace(bare, donor="llama"))
    with pytest.raises(UserError, match=r"^donor: has no value; available: llama, vicuna, float; or name two"):
        compare(dataclasses.replace(bare, donor=None))


def test_the_figure_has_overlaps_and_chance(bare: Experiment, tmp_path: Path, files: list[str]) -> None:
    """Of sets that have heads; one group more that has none is no bar."""
    for name, circuit in zip(files, (FIRST, SECOND), strict=True):
        Circuit((Group("none", "last", ()), *circuit.groups), circuit.found_on).write(Path(name))
    result = compare(bare, files)
    (panel,) = hand_made.row_panels(result)
    for row, shared, chance in zip(
        panel.rows, result["jaccard"].values.tolist()[1:], result["jaccard_by_chance"].values.tolist()[1:], strict=True
    ):
        assert [hand_made.plain(mark.value) for mark in row.marks] == pytest.approx([shared, chance])
        assert [mark.label for mark in row.marks] == ["shared", "by chance"]
    assert [row.name for row in panel.rows] == [each[0] for each in result.tables[0].rows][1:]


def test_the_command_line_compares(launch: Launch, files: list[str]) -> None:
    fixed = ("method=compare", "tracking=disabled", "store=null", "hydra.run.dir=out")
    assert launch(*fixed, f"method.circuits=[{','.join(files)}]") == 0
    record = json.loads(Path("out/result.json").read_text())
    assert [circuit["file"] for circuit in record["circuit"]] == files
    assert record["models"] == {}
