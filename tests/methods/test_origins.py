"""Every result says how many of its contexts its circuit and masks were found on, whatever method it is of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from entitrack.core.circuits import Circuit, Group
from entitrack.core.masks import Masks
from entitrack.core.parts import PARTS, Part
from entitrack.methods import run_method
from entitrack.methods.cmap.settings import Settings
from entitrack.methods.compare.settings import Settings as CompareSettings
from entitrack.methods.experiment import Experiment
from entitrack.tasks.boxes import Boxes

GROUP = Group("one", "last", ((2, 2), (3, 0)))
CONTEXTS = {part: Boxes(count=28, part=part) for part in PARTS}


def on(experiment: Experiment, part: Part) -> Experiment:
    return dataclasses.replace(experiment, task=CONTEXTS[part], circuits={}, masks={})


def chosen(experiment: Experiment, folder: Path) -> tuple[str, str]:
    """A circuit and masks that say that they were found on the prompts to search on."""
    found_on = {"contexts": on(experiment, "search").contexts()}
    circuit, masks = folder / "circuit.json", folder / "masks.json"
    Circuit((GROUP,), found_on).write(circuit)
    Masks({"one": {"positional": GROUP.heads[:1]}}, {"contexts": found_on["contexts"][:3]}).write(masks)
    return str(circuit), str(masks)


@pytest.mark.parametrize(("part", "circuit_shares", "masks_share"), [("search", 4, 3), ("judge", 0, 0)])
def test_contexts_that_something_was_chosen_on_are_counted(
    tiny_experiment: Experiment, tmp_path: Path, part: Part, circuit_shares: int, masks_share: int
) -> None:
    circuit, masks = chosen(tiny_experiment, tmp_path)
    experiment = dataclasses.replace(on(tiny_experiment, part), circuit_name=circuit)
    settings = Settings(controls=0, masks=masks, narrow={"one": "positional"})
    assert run_method("cmap", experiment, settings).notes[-2:] == (
        f"circuit {circuit} was found on 4 contexts; of the 4 contexts here {circuit_shares} are among them",
        f"masks {masks} was found on 3 contexts; of the 4 contexts here {masks_share} are among them",
    )


def test_a_method_without_prompts_counts_none(tiny_experiment: Experiment, tmp_path: Path) -> None:
    circuit, _ = chosen(tiny_experiment, tmp_path)
    result = run_method("compare", on(tiny_experiment, "search"), CompareSettings(circuits=[circuit, "llama"]))
    assert "chosen_on" not in result.facts
