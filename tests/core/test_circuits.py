"""Circuits: what is written is read, and what a model does not have is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from entitrack.core.circuits import SHIPPED, Circuit, Group, read_circuit
from entitrack.core.errors import UserError
from entitrack.models.family import Model
from entitrack.tasks.boxes import ROLES

CIRCUIT = Circuit((Group("value_fetcher", "last", ((3, 3), (1, 4))), Group("empty", "last", ())), {"model": "x"})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    CIRCUIT.write(tmp_path / "c.json")
    assert read_circuit(str(tmp_path / "c.json"), "tiny") == CIRCUIT


def test_the_published_circuits_are_there() -> None:
    sizes = {name: read_circuit(name, "llama-7b").size for name in ("llama", "goat", "float")}
    assert sizes["llama"] == 72


@pytest.mark.parametrize("family", list(SHIPPED))
def test_shipped_circuits_read(family: str) -> None:
    for file in SHIPPED[family].glob("*.json"):
        assert read_circuit(file.stem, family).size > 0


def test_an_unknown_circuit_lists_those_that_ship() -> None:
    with pytest.raises(UserError, match=r"circuit: no file 'nope'.*available: float, goat, llama"):
        read_circuit("nope", "llama-7b")


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([{"name": "a"}], ": not a circuit"),
        ([], ": the circuit has no groups"),
        ([{"name": "a", "role": "last", "heads": [[1.7, 0]]}], ", group 'a': .*as whole numbers from 0"),
        ([{"name": "a", "role": "last", "heads": [[1, 0], [1, 0]]}], ", group 'a': lists a head twice"),
        ([{"name": "a", "role": "last", "heads": []}] * 2, ": two groups are called 'a'"),
    ],
)
def test_a_file_that_holds_no_circuit_is_refused(tmp_path: Path, groups: Any, reason: str) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"groups": groups}))
    with pytest.raises(UserError, match=rf"c\.json{reason}"):
        read_circuit(str(tmp_path / "c.json"), "tiny")


def test_heads_and_roles_are_checked(golden_model: Model) -> None:
    CIRCUIT.check(golden_model.anatomy, ROLES)
    for heads, role, reason in (
        (((4, 0),), "last", r"no head \[4, 0\]; available: layers 0 to 3, heads 0 to 5"),
        (((0, 6),), "last", r"no head \[0, 6\]"),
        (((0, 0),), "first", "no role 'first'; available: last"),
    ):
        with pytest.raises(UserError, match=reason):
            Circuit((Group("g", role, heads),)).check(golden_model.anatomy, ROLES)


def test_an_unknown_group_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match="available: value_fetcher, empty"):
        CIRCUIT.group("nope")


def test_a_head_that_two_groups_have_at_one_role_counts_once() -> None:
    groups = (
        Group("one", "last", ((0, 1), (2, 2))),
        Group("two", "last", ((0, 1),)),
        Group("three", "other", ((0, 1),)),
    )
    assert Circuit(groups).size == 3


def test_a_group_is_chosen_once_and_none_named_means_all() -> None:
    assert CIRCUIT.choose([], "method.groups") == CIRCUIT.groups
    assert CIRCUIT.choose(["empty"], "method.groups") == (CIRCUIT.group("empty"),)
    with pytest.raises(UserError, match=r"^method\.groups\.1: group 'empty' is there twice"):
        CIRCUIT.choose(["empty", "empty"], "method.groups")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"groups": [{"name": "nothing", "role": "last", "heads": []}]}, "nothing may be called 'nothing'"),
        ({"groups": [{"name": "random 1", "role": "last", "heads": []}]}, "no group may be called 'random 1'"),
        ({"found_on": 3}, "found_on is 3"),
    ],
)
def test_files_that_results_could_not_name_are_refused(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    record = {"groups": [{"name": "g", "role": "last", "heads": [[0, 0]]}], **change}
    (tmp_path / "circuit.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=reason):
        read_circuit(str(tmp_path / "circuit.json"), "golden")
