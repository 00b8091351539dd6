"""What every method is given: the circuit of a run, its quirks, and prompts batch by batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import entitrack
from entitrack.core.circuits import Circuit, Group
from entitrack.core.errors import UserError
from entitrack.core.quirks import Quirk
from entitrack.methods.experiment import Experiment, questions
from tests.conftest import Launch

BOTH = Circuit((Group("early", "last", ((3, 1), (2, 0))), Group("late", "last", ((2, 0), (1, 1)))))
"""A circuit of which two groups have one head."""


def test_a_head_of_two_groups_is_in_both_unless_published(golden_experiment: Experiment, tmp_path: Path) -> None:
    BOTH.write(tmp_path / "circuit.json")
    experiment = dataclasses.replace(golden_experiment, circuit_name=str(tmp_path / "circuit.json"))
    published = dataclasses.replace(experiment, quirks=frozenset({Quirk.SHARED_HEADS}))
    assert experiment.circuit(experiment.base()).groups == BOTH.groups
    early, late = published.circuit(experiment.base()).groups
    assert (early.heads, late.heads) == (((3, 1),), BOTH.groups[1].heads)
    assert list(published.circuits) == [str(tmp_path / "circuit.json")]
    assert published.circuits == {str(tmp_path / "circuit.json"): Circuit((early, late))}


def test_what_is_followed_is_what_the_command_says_and_is_recorded(
    launch: Launch, golden_overrides: list[str], tmp_path: Path
) -> None:
    BOTH.write(tmp_path / "both.json")
    few = ("method.models=[llama]", "method.random_circuits=2", "method.mean_count=14", "tracking=disabled")
    words = ("method=faithfulness", *few, *golden_overrides, f"circuit={tmp_path / 'both.json'}")
    facts = {}
    for compat in ("default", "paper"):
        assert launch(*words, f"compat={compat}", f"hydra.run.dir={compat}") == 0
        facts[compat] = entitrack.load(tmp_path / compat).facts
    assert facts["default"]["quirks"] == []
    assert set(facts["paper"]["quirks"]) == {"shared_heads", "rounded_f", "heads_with_replacement"}
    assert [facts[compat]["heads"] for compat in ("default", "paper")] == [3, 3]


@pytest.mark.parametrize("size", [5, 42, 100])
def test_batches_have_every_prompt_once_and_in_order(golden_experiment: Experiment, size: int) -> None:
    prompts = golden_experiment.task.prompts()
    batches = dataclasses.replace(golden_experiment, batch_size=size).by_batch(prompts)
    assert [prompt for batch in batches for prompt in batch] == list(prompts)
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert 0 < len(batches[-1]) <= size


def test_members_are_all_or_those_that_are_named(golden_experiment: Experiment) -> None:
    assert golden_experiment.members([], "here") == ["base", "donor", "twin"]
    assert golden_experiment.members(["twin", "base"], "here") == ["twin", "base"]
    with pytest.raises(UserError, match=r"^here\.2: 'base' is there twice"):
        golden_experiment.members(["base", "twin", "base"], "here")


def test_a_method_about_a_donor_needs_one(golden_experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"^donor: has no value; available: base, donor, twin"):
        dataclasses.replace(golden_experiment, donor=None).donor_of(golden_experiment.base(), ["z"])
    assert golden_experiment.donor_of(golden_experiment.base(), ["z"]).name == "donor"


@pytest.mark.parametrize("lacks", ["alternatives", "template"])
def test_prompts_that_offer_no_answers_or_have_no_template_are_refused(lacks: str) -> None:
    whole = {"alternatives": ("a", "b"), "template": ("the", "x")}
    fit: Any = SimpleNamespace(**whole)
    unfit: Any = SimpleNamespace(**{name: value for name, value in whole.items() if name != lacks})
    assert questions([fit, fit]) == [fit, fit]
    with pytest.raises(UserError, match=r"^prompt 1: its context does not offer several answers in a fixed template"):
        questions([fit, unfit])
