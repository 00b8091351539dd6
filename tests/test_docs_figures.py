"""What the pages say that commands print on the embedded families is printed by them."""

from __future__ import annotations

from pathlib import Path

import check_docs
import pytest
from check_docs import Claim

ELSEWHERE = ("smollm2", "gemma3", "backend=", "tests.remote")
"""Of packages and of servers."""
LONG = (
    "simulate_intervals",
    "stability",
    "faithfulness",
    "completeness",
    "cmap_matrix",
    "circuit_curve",
    "control_prompts=null",
    "model=tiny",
    "method=dcm",
)
"""Of minutes. `python jobs/check_docs.py go` runs these too."""
CLAIMS = [
    claim
    for page in check_docs.pages()
    for claim in check_docs.claims(page)
    if not any(word in command for word in (*ELSEWHERE, *LONG) for command in claim.commands)
]
PRINTED: dict[str, str] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docs")


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.page}:{claim.line}")
def test_what_stands_there_is_printed(claim: Claim, folder: Path) -> None:
    ((_, wrong),) = check_docs.checked([claim], folder, PRINTED)
    assert wrong == []


def test_a_line_or_number_that_is_not_printed_is_found() -> None:
    printed = {"a": "  x  .50 [.40, .60]\n  y  .70\n", "b": "nothing"}
    shown = (("a", ("x .50 [.40, .60]", "y   .70")),)
    assert list(Claim("p", 1, shown, (".5", ".70", ".4")).wrong(printed)) == []
    for lines in (("x .51 [.40, .60]",), ("y .70", "x .50 [.40, .60]"), ("x",)):
        (said,) = Claim("p", 1, (("a", lines),)).wrong(printed)
        assert lines[-1] in said
    assert len(list(Claim("p", 1, (("a", ()), ("b", ())), (".51", ".65", ".70")).wrong(printed))) == 2


def test_claims_are_read_from_blocks_and_from_below_paragraphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text(
        "# A\n\n```\n$ one \\\n    two\nprinted .1\n$ three\n```\n\n"
        "It is .5 of 2, `.7` aside,\nand 1.000.\n<!-- $ four -->\n<!-- $ five -->\n\nnot .3\n\n```\n$no .2\n```\n"
    )
    block, paragraph = check_docs.claims(page)
    assert block == Claim("README.md", 3, (("one two", ("printed .1",)), ("three", ())))
    assert paragraph == Claim("README.md", 10, (("four", ()), ("five", ())), (".5", "1.000"))
