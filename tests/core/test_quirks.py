"""`compat=paper`: which quirks a run follows, where it is refused, and what the page of methods says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from entitrack.core.circuits import Circuit, Group
from entitrack.core.quirks import QUIRKS, Quirk, followed
from entitrack.methods import method_names, settings_of
from entitrack.tasks.boxes import Boxes, BoxesFile
from entitrack.tasks.registry import find_task
from tests.conftest import Launch

README = Path(__file__).parents[2] / "entitrack" / "methods" / "README.md"
WITHOUT = {"ablation", "attention_knockout", "binding", "transfer", "circuit_curve", "cmap_map"}
WITHOUT |= {"cmap_matrix", "cmap_order", "compare", "evaluate", "positions"}
"""Methods whose published code does what its text says, and those that the paper does not have."""


def test_every_quirk_is_followed_by_a_method_and_described() -> None:
    used = {quirk for name in method_names() for quirk in settings_of(name).quirks}
    assert used == set(Quirk) == set(QUIRKS)
    assert {name for name in method_names() if not settings_of(name).quirks} == WITHOUT


def test_quirks_of_prompts_are_followed_on_tasks_that_have_them() -> None:
    dcm = settings_of("dcm").quirks
    assert followed(dcm, Boxes.quirks) == followed(dcm, BoxesFile.quirks) == set(dcm)
    assert followed(dcm, ()) == {Quirk.SHARED_HEADS, Quirk.SPLIT_BY_PROMPT, Quirk.TWO_EPOCHS}
    assert followed(settings_of("path_patching").quirks, ()) == set()


@pytest.mark.parametrize("method", sorted(WITHOUT))
def test_it_is_refused_where_it_does_nothing(method: str, launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(f"method={method}", "compat=paper") == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"entitrack: compat: published code and default do the same in method {method!r} on task")
    assert line.endswith("path_patching, stability")
    assert "\n" not in line


def test_it_is_refused_on_a_task_without_quirks(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    find_task("tests.examples.fruit:Fruit")
    assert launch("method=path_patching", "task=tests.examples.fruit:Fruit", "compat=paper") == 2
    assert "choose among cmap, completeness, dcm, faithfulness, minimality" in capsys.readouterr().err


def test_a_head_of_two_groups_stays_in_the_later_one() -> None:
    both = Circuit(
        (
            Group("fetchers", "last", ((3, 1), (2, 0))),
            Group("transmitters", "last", ((2, 0), (1, 1))),
            Group("detectors", "query_label", ((3, 1),)),
        )
    )
    assert [group.heads for group in both.with_heads_once().groups] == [((3, 1),), ((2, 0), (1, 1)), ((3, 1),)]


def test_the_readme_lists_them_all() -> None:
    rows = [f"| {quirk.where} | {quirk.published} | {quirk.default} |" for quirk in QUIRKS.values()]
    text = README.read_text()
    assert [row for row in rows if row not in text] == []
